"""Whether the frames of every video are there once: label files against plans, the manifest and recorded failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from gsvnet.chunks import shard_name
from gsvnet.maintenance.findings import Findings, Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A shard that was found. frames [first_frame, stop_frame). times: its first and last pts, None if not read.

    identity: of the video file that was labeled. is_readable: False for a file whose footer cannot be believed; a fault
    of its own tells.
    """

    path: str
    shard: int
    first_frame: int = 0
    stop_frame: int = 0
    times: tuple[int, int] | None = None
    identity: str = ""
    is_readable: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedShard:
    """Frames [first_frame, stop_frame) of a shard as planned."""

    first_frame: int
    stop_frame: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedVideo:
    """A video as planned. identity: of its file; "" where the plan does not say."""

    shards: Sequence[PlannedShard]
    identity: str


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """What to do, in the words of this sort of output."""

    replace: str = "delete it and run the same gsvnet label command, which labels that shard again"
    complete: str = "run the same gsvnet label command"
    retry: str = "run the same gsvnet label command with --retry-failed"
    plan: str = "run the same gsvnet label command, which plans anew"


COMPACTED_REMEDIES = Remedies(
    replace="delete it and run the same gsvnet compact command, which writes that file again",
    complete="run the same gsvnet compact command; if the frames are missing in its source too, label them there first "
    "and compact into another output",
    retry="label the source again with --retry-failed, and compact into another output",
    plan="run the same gsvnet compact command, which copies the plan of the source",
)


def check_video(
    video: str,
    pieces: Iterable[Piece],
    plan: PlannedVideo | None,
    *,
    gone: Mapping[int, tuple[int, int]],
    failed: Mapping[int | None, str],
    remedies: Remedies,
    findings: Findings,
) -> None:
    """Add to `findings` what is missing, doubled or out of place in a video.

    plan: without one, footers decide, and the frames begin at 0. gone: frames of shards that the manifest lists and
    the listing does not. failed: why shards were given up; None as shard: the whole video.
    """
    found: dict[int, Piece] = {}
    for piece in sorted(pieces, key=lambda piece: (piece.shard, piece.first_frame, piece.path)):
        other = found.setdefault(piece.shard, piece)
        if other is not piece:
            frames = (piece.first_frame, piece.stop_frame)
            message = f"shard {shard_name(piece.shard)} is in {other.path} too; {remedies.replace}"
            findings.add("doubled", message, path=piece.path, video=video, frames=frames)
    report = _Report(video=video, gone=gone, failed=failed, remedies=remedies, findings=findings)
    readable = [piece for piece in found.values() if piece.is_readable]
    report.check_order(readable)
    report.check_identity(readable, None if plan is None else plan.identity)
    if plan is None:
        report.check_footers(found)
    else:
        report.check_plan(found, plan.shards)


@dataclass(frozen=True, kw_only=True)
class _Report:
    """Findings about one video."""

    video: str
    gone: Mapping[int, tuple[int, int]]
    failed: Mapping[int | None, str]
    remedies: Remedies
    findings: Findings

    def check_order(self, pieces: Sequence[Piece]) -> None:
        """Shards that follow each other share no frame, and time goes on."""
        before = pieces[0] if pieces else Piece(path="", shard=0)
        for piece in pieces[1:]:
            start, stop = piece.first_frame, min(before.stop_frame, piece.stop_frame)
            if start < before.stop_frame:
                self._add("doubled", f"{before.path} has these frames too; {self.remedies.replace}", piece, start, stop)
            elif before.times and piece.times and before.times[1] >= piece.times[0]:
                message = f"its first pts {piece.times[0]} is not above {before.times[1]}, the last of {before.path}"
                self._add("damaged", f"{message}; {self.remedies.replace}", piece, start, start + 1)
            before = max(before, piece, key=lambda each: each.stop_frame)

    def check_identity(self, pieces: Sequence[Piece], planned: str | None) -> None:
        """All are labels of one file: of the planned one, else of that of the first piece."""
        of, remedy = "was planned", self.remedies.replace
        if not planned:
            of, remedy = "shards before it", "keep those of one file, or label into another output"
        for piece in pieces:
            planned = planned or piece.identity
            if piece.identity != planned:
                message = f"labels of another file ({piece.identity}) than {of} ({planned})"
                self._add("foreign", f"{message}; {remedy}", piece, piece.first_frame, piece.stop_frame)

    def check_footers(self, found: Mapping[int, Piece]) -> None:
        """From frame 0 on without gaps, as far as files, the manifest and failures tell."""
        known = {*found, *self.gone, *(shard for shard in self.failed if shard is not None)}
        for run in self._runs(set(range(max(known, default=-1) + 1)) - found.keys()):
            self._report_missing(run, self._frames_between(run, found))
        for shard, piece in found.items():
            start = self._stop_before(shard, found)
            if piece.is_readable and start is not None and piece.first_frame > start:
                self._report_missing([], (start, piece.first_frame))
        if None in self.failed:  # where the video ends is not known
            self._report_missing([], None, after=max(known, default=None))

    def check_plan(self, found: Mapping[int, Piece], plan: Sequence[PlannedShard]) -> None:
        """Every planned shard with its planned frames; the last one ends where its file says."""
        for index, piece in sorted(found.items()):
            if not piece.is_readable:
                continue
            if index >= len(plan):
                message = f"the plan of {self.video} has {len(plan)} shards; {self.remedies.replace}"
                self._add("foreign", message, piece, piece.first_frame, piece.stop_frame)
                continue
            planned, is_last = plan[index], index == len(plan) - 1
            wrong_stop = piece.stop_frame != planned.stop_frame
            if piece.first_frame != planned.first_frame or (wrong_stop and not is_last):
                message = (
                    f"holds frames {piece.first_frame} to {piece.stop_frame - 1}, "
                    f"planned are {planned.first_frame} to {planned.stop_frame - 1}; {self.remedies.replace}"
                )
                self._add("damaged", message, piece, planned.first_frame, planned.stop_frame)
            elif wrong_stop:
                self.findings.notes.append(
                    f"{self.video} has {piece.stop_frame} frames, {planned.stop_frame} were planned: headers lie"
                )
        for run in self._runs(set(range(len(plan))) - found.keys()):
            self._report_missing(run, (plan[run[0]].first_frame, plan[run[-1]].stop_frame))

    def _runs(self, shards: Set[int]) -> Iterator[list[int]]:
        """Shards that follow each other and are all recorded as given up, or none of them, together."""
        run: list[int] = []
        for shard in sorted(shards):
            if run and (run[-1] != shard - 1 or self._is_recorded(run[-1]) != self._is_recorded(shard)):
                yield run
                run = []
            run.append(shard)
        if run:
            yield run

    def _is_recorded(self, shard: int) -> bool:
        return shard in self.failed or None in self.failed

    def _frames_between(self, run: Sequence[int], found: Mapping[int, Piece]) -> tuple[int, int] | None:
        """Frames of shards that are missing, from those beside them or from the manifest; None where neither tells."""
        following = found.get(run[-1] + 1)
        start = self._stop_before(run[0], found)
        stop = following.first_frame if following is not None and following.is_readable else None
        start = self.gone[run[0]][0] if start is None and run[0] in self.gone else start
        stop = self.gone[run[-1]][1] if stop is None and run[-1] in self.gone else stop
        return None if start is None or stop is None else (start, stop)

    def _stop_before(self, shard: int, found: Mapping[int, Piece]) -> int | None:
        """Where the shard before this one ends; None where that is not known."""
        before = found.get(shard - 1)
        if before is None or not before.is_readable:
            return 0 if shard == 0 else None
        return before.stop_frame

    def _report_missing(self, shards: Sequence[int], frames: tuple[int, int] | None, after: int | None = None) -> None:
        """shards: none for a video as a whole, for all of it after a shard, or for frames between two neighbours."""
        named = ", ".join(shard_name(shard) for shard in shards[:5]) + (", ..." if len(shards) > 5 else "")
        what = f"no labels of shard {named}" if shards else "no labels"
        what += "" if after is None else f" after shard {shard_name(after)}"
        reasons = [self.failed.get(shard, self.failed.get(None)) for shard in shards] or [self.failed.get(None)]
        if None not in reasons:
            why = "; ".join(sorted({str(reason) for reason in reasons})[:3])
            message = f"{what}: given up ({why}); {self.remedies.retry}"
            if None in self.failed:
                message += f", or delete _failed/{self.video} and its plan if it is not to be labeled any more"
            self.findings.add("failed", message, video=self.video, frames=frames)
            return
        listed = ", which the manifest lists" if any(shard in self.gone for shard in shards) else ""
        self.findings.add("missing", f"{what}{listed}; {self.remedies.complete}", video=self.video, frames=frames)

    def _add(self, kind: Kind, message: str, piece: Piece, start: int, stop: int) -> None:
        self.findings.add(kind, message, path=piece.path, video=self.video, frames=(start, stop))
