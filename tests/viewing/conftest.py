"""Small outputs to look at, and a browser to look with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.labeling.report import JobReport
from gsvnet.store.codec import encode_mask, pixel_counts
from gsvnet.store.job import FailureRecord, open_job, write_failure, write_plan
from gsvnet.store.layout import SUCCESS, derived_uri, shard_uri
from gsvnet.store.publish import publish_bytes
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter

HEIGHT, WIDTH, FPS = 36, 64, 10
BROWSER_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def draw_labels(index: int) -> np.ndarray:
    """Sky above road, and a car (class 8) that grows with the frame index."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[HEIGHT // 2 :] = 3
    labels[20:30, : index % WIDTH] = 8
    return labels


def make_row(index: int, *, lost: bool = False, num_classes: int = len(CAMVID)) -> FrameRow:
    row = FrameRow(
        frame_index=index,
        pts=index * 1280,
        time_s=index / FPS,
        is_keyframe=index % 5 == 0,
        keyframe_distance=index % 5,
        height=HEIGHT,
        width=WIDTH,
        pixels=pixel_counts(draw_labels(index), num_classes),
        confidence=0.9 - index % 10 / 100,
        confidence_p05=0.5,
        mask=encode_mask(draw_labels(index)),
    )
    nothing = {"pixels": None, "confidence": None, "confidence_p05": None, "codec": None, "mask": None}
    return replace(row, status="decode_error", **nothing) if lost else row


class Output:
    """An output in the making. write: one shard; plan: what its video should have; fail: what was given up."""

    def __init__(self, out: Path, classes: ClassSet = CAMVID) -> None:
        self.out, self.classes, self.spool = str(out), classes, out.parent / "spool"
        self.spool.mkdir(exist_ok=True)
        self.job = open_job(self.out, {"keyframe_interval": 5}, classes=classes, model_hash="a" * 64)

    def write(
        self,
        video: str = "drive-0123456789ab",
        *,
        uri: str = "/videos/drive.mp4",
        shard: int = 0,
        first_frame: int = 0,
        num_frames: int = 20,
        lost: Collection[int] = (),
        identity: str = "1000:etag:abc",
        time_base: Fraction = Fraction(1, 12800),
        pts: Sequence[int] | None = None,
        change: Callable[[FrameRow], FrameRow] = lambda row: row,
    ) -> Path:
        """pts: of all frames of the video; default: ten a second. change: what it makes of each row is written."""
        footer = ShardFooter(
            job=self.job.fingerprint,
            video=video,
            uri=uri,
            identity=identity,
            time_base=str(time_base),
            shard=shard,
            first_frame=first_frame,
            model_hash="a" * 64,
            classes=self.classes,
            precision="fp32",
            device="cpu",
            threads=1,
        )
        target = shard_uri(self.out, video, f"{shard:06d}")
        with ShardWriter(target, footer=footer, spool_dir=self.spool) as writer:
            for index in range(first_frame, first_frame + num_frames):
                row = make_row(index, lost=index in lost, num_classes=len(self.classes))
                if pts is not None:
                    row = replace(row, pts=pts[index], time_s=float(pts[index] * time_base))
                writer.append(change(row))
        return Path(target)

    def plan(self, video: str, shards: list[tuple[int, int]], uri: str = "/videos/drive.mp4") -> None:
        """shards: (first frame, number of frames)."""
        video_fields = {"id": video, "uri": uri, "time_base": "1/12800", "num_frames": sum(n for _, n in shards)}
        cut = [
            {
                "index": i,
                "first_frame": first,
                "num_frames": num,
                "start_pts": first * 1280,
                "end_pts": None if i == len(shards) - 1 else (first + num) * 1280,
            }
            for i, (first, num) in enumerate(shards)
        ]
        end_pts = sum(shards[-1]) * 1280
        write_plan(self.out, video, {"video": video_fields, "shards": cut, "end_pts": end_pts})

    def fail(self, video: str, shard: str | None, message: str = "decoding stopped") -> None:
        write_failure(
            self.out,
            FailureRecord(
                video=video, uri="/videos/x.mp4", shard=shard, error="DecodeError", message=message, attempts=3
            ),
        )


def drifted(*keyframes: int, agreement: float = 0.5) -> Callable[[FrameRow], FrameRow]:
    """What gives the chunks that begin at these keyframes some drift, and those of all others very little."""

    def change(row: FrameRow) -> FrameRow:
        if row.status != "ok":
            return row
        measured: dict = {"keyframe_interval": 5, "class_confidence": np.full(len(row.pixels), 0.8)}
        if row.is_keyframe:
            found = agreement if row.frame_index in keyframes else 0.99
            measured |= {"drift_agreement": found, "drift_iou": np.full(len(row.pixels), found)}
        return replace(row, **measured)

    return change


@pytest.fixture
def output(tmp_path) -> Output:
    return Output(tmp_path / "out")


@pytest.fixture(scope="session")
def troubled(tmp_path_factory) -> Output:
    """To be read only.

    Frames 0..19 (two lost) and 40..59 of a planned 0..79, whose shard 1 failed; a sound video; one that failed.
    """
    output = Output(tmp_path_factory.mktemp("troubled") / "out")
    output.write(lost=[4, 5])
    output.write(shard=2, first_frame=40)
    output.plan("drive-0123456789ab", [(0, 20), (20, 20), (40, 20), (60, 20)])
    output.fail("drive-0123456789ab", "000001")
    output.write("sound-ba9876543210", uri="/videos/sound.mp4", num_frames=10)
    output.plan("sound-ba9876543210", [(0, 10)], uri="/videos/sound.mp4")
    output.fail("broken-aaaaaaaaaaaa", None, "no frame")
    return output


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, from GSVNET_CHROMIUM or the path; skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("GSVNET_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here; name one in GSVNET_CHROMIUM")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=list(BROWSER_FLAGS))
        yield browser
        browser.close()


class Watched:
    """A page with what its console said (but for infos) and which addresses it asked for."""

    def __init__(self, page) -> None:
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))


@contextmanager
def opening(browser) -> Iterator[Callable[..., Watched]]:
    """open(url, width=, height=): a Watched page in a new, clean context of its own, until the block ends."""
    contexts = []

    def open_url(url: str, *, width: int = 1600, height: int = 1000) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        watched = Watched(context.new_page())
        watched.page.goto(url)
        return watched

    yield open_url
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(browser):
    """See `opening`."""
    with opening(browser) as open_url:
        yield open_url


@pytest.fixture(scope="module")
def open_shared_page(browser):
    """See `opening`; the pages stay open for all tests of a module, which must leave them as they were."""
    with opening(browser) as open_url:
        yield open_url


@pytest.fixture(scope="session")
def clip(media, tmp_path_factory) -> Path:
    """A video of 40 frames, 144x256, 30 a second, whose pictures hold their own number (`media.read_number`)."""
    path = tmp_path_factory.mktemp("clip") / "street.mp4"
    return media.write_clip(path, num_frames=40, size=(4 * HEIGHT, 4 * WIDTH), options={"g": "12"})


@pytest.fixture(scope="session")
def labeled(clip, tmp_path_factory) -> str:
    """A complete output with labels of all frames of `clip`, a quarter as high and wide, and a report of its run."""
    from gsvnet.video.index import index_video
    from gsvnet.video.probe import probe_video

    info, pts = probe_video(str(clip)), index_video(str(clip)).pts.tolist()
    output = Output(tmp_path_factory.mktemp("labeled") / "out")
    output.write(
        "street-0123456789ab",
        uri=str(clip),
        num_frames=len(pts),
        identity=info.identity,
        time_base=info.time_base,
        pts=pts,
    )
    publish_bytes(json.dumps(RUN.to_dict()).encode(), derived_uri(output.out, "_report.json"))
    publish_bytes(b"", derived_uri(output.out, SUCCESS))
    return output.out


RUN = JobReport(
    out="o", model="default", model_hash="a", keyframe_interval=5, device="cpu", precision="fp32", threads=2,
    num_actors=1, videos=1, shards_planned=1, shards_labeled=1, shards_skipped=0, shards_in_output=1, frames=100,
    frames_lost=0, label_bytes=1, media_s=10.0, wall_s=20.0,
    stage_s={"decode": 1.0, "segment": 18.0, "upsample": 1.0, "encode": 1.0, "write": 0.5, "total": 10.0},
    core_s={"decode": 1.0, "segment": 8.0, "upsample": 1.0, "encode": 1.0, "write": 0.5, "total": 12.0},
)  # fmt: skip
