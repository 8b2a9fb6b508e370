"""The benchmark's rows, in order, and the mark that is set for each. Light: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What a row compares, in a few words, and the ratio to reach: at least `least`, or at most `most`."""

    what: str
    least: float | None = None
    most: float | None = None

    def met(self, ratio: float) -> bool | None:
        """Whether a ratio is good enough; None where no mark is set."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)

    @property
    def text(self) -> str:
        """For people: ">= 20"; empty where no mark is set."""
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}" if self.most is not None else ""


# The first four are shares of the ratio of multiply-accumulates, 3.5 at L=4 and 7.9 at L=12, at 1024x2048.
REACH: dict[str, Reach] = {
    "speedup_l4_fp32": Reach(what="end to end, L=4 over L=1, fp32", least=3.15),
    "speedup_l4_fast": Reach(what="end to end, L=4 over L=1, bf16", least=2.625),
    "speedup_l12_fp32": Reach(what="end to end, L=12 over L=1, fp32", least=6.0),
    "speedup_l12_fast": Reach(what="end to end, L=12 over L=1, bf16", least=5.0),
    "sides_l12": Reach(what="two-sided at L=12 over forward at L=12", most=1.25),
    "sides_l6": Reach(what="two-sided at L=12 over forward at L=6", most=1.0),
    "arseg_codec": Reach(what="AR-Seg at L=12 over its keyframe network, codec motion", most=0.40),
    "arseg_proxy": Reach(what="AR-Seg at L=12 over its keyframe network, proxy motion", most=0.40),
    "tdnet_batched": Reach(what="TDNet's frames in batches over its authors' loop, CPU", least=1.15),
    "tdnet_batched_gpu": Reach(what="TDNet's frames in batches over its authors' loop, GPU", least=2.0),
    "plain_fp32": Reach(what="L=5 in bf16 over a plain fp32 loop", least=8.0),
    "plain_equal": Reach(what="L=5 over a plain loop, both fp32", least=5.0),
    "ray_data": Reach(what="L=5 over Ray Data, per frame", least=6.0),
    "overlap": Reach(what="end to end over its longest stage", most=1.15),
    "upsample": Reach(what="labels over interpolate + argmax", least=20.0),
    "mask_bytes": Reach(what="bytes of a mask over PNG", most=0.40),
    "mask_encode": Reach(what="time to encode a mask over PNG", most=0.15),
    "mask_decode": Reach(what="masks decoded per second on a core", least=300.0),
    "keyframe_fast": Reach(what="keyframe network, fastest over eager fp32", least=2.0),
    "overhead": Reach(what="a shard's time beside its frames, in %", most=2.0),
    "stages": Reach(what="share of the networks in a frame's work"),
    "h200_compute": Reach(what="networks over their convolutions alone, GPU", least=0.6),
}
