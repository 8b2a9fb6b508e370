"""Whether the rows of a label file are the frames that its footer states, each whole and once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gsvnet.errors import CorruptLabels
from gsvnet.store.codec import CODEC, pixel_counts
from gsvnet.store.label_file import MASK_COLUMNS, decode_row, decode_uncertain
from gsvnet.store.schema import LABELED, ONLY_OF_LABELED, PER_CLASS, ROUNDING
from gsvnet.store.sources import Source

FaultKind = Literal["damaged", "doubled", "foreign", "newer"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with a label file. frames: [start, stop) of `video`, where it is known.

    damaged: not as it was written. doubled: frames that are there twice. foreign: of another job, video or shard, or
    no label file. newer: of a newer version of the program.
    """

    kind: FaultKind
    message: str
    video: str | None = None
    frames: tuple[int, int] | None = None


class RowsInspector:
    """Checks the rows of one file, row group by row group in order. sample: masks of each shard to decode.

    faults: the first of each sort. times: first and last pts of each source that was seen, by its place among them.
    """

    def __init__(self, sources: Sequence[Source], *, sample: int) -> None:
        self.sources, self.sample = sources, sample
        self.times: dict[int, tuple[int, int]] = {}
        self.num_decoded = 0
        self._found: dict[object, Fault] = {}
        self._starts = [source.row for source in sources]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What was found so far."""
        return tuple(self._found.values())

    def skip(self, first_row: int, num_rows: int, message: str) -> None:
        """Hear of rows that cannot be read."""
        for number, start, stop in self._parts(first_row, num_rows):
            self._note((number, first_row), "damaged", message, number, start, stop)
        if not self.sources:
            self._found[first_row] = Fault(kind="damaged", message=message)

    def check(self, table: pa.Table, first_row: int) -> None:
        """Check a row group in the label schema, see `complete_columns`, that begins at this row of the file."""
        for number, start, stop in self._parts(first_row, len(table)):
            rows = table.slice(start - first_row, stop - start)
            self._check_frames(rows, number, start)
            self._check_pts(rows, number, start)
            ok = self._check_status(rows, number, start)
            self._check_quality(rows, number, start)
            self._check_pixels(rows, ok, number, start)
            self._decode_sample(rows, ok, number, start)

    def _parts(self, first_row: int, num_rows: int) -> list[tuple[int, int, int]]:
        """The sources that the rows belong to: their places, and the rows [start, stop) of each."""
        first = max(0, bisect_right(self._starts, first_row) - 1)
        last = bisect_right(self._starts, first_row + num_rows - 1)
        found = []
        for number in range(first, last):
            source = self.sources[number]
            start, stop = max(first_row, source.row), min(first_row + num_rows, source.row + source.num_rows)
            found += [(number, start, stop)] if start < stop else []
        return found

    def _check_frames(self, rows: pa.Table, number: int, start: int) -> None:
        source = self.sources[number]
        frames = rows["frame_index"].to_numpy()
        expected = np.arange(len(rows)) + source.first_frame + start - source.row
        if len(wrong := np.flatnonzero(frames != expected)):
            at = wrong[0]
            doubled = len(np.unique(frames)) < len(frames) or frames[at] < expected[at]
            message = f"row {start + at} holds frame {frames[at]}, not {expected[at]}"
            self._note("frames", "doubled" if doubled else "damaged", message, number, start + at, start + len(rows))
        for name in ("video", "uri"):
            stated = getattr(source.footer, name)
            if not pc.all(pc.equal(rows[name], stated)).as_py():
                message = f"rows whose {name} is not {stated!r}"
                self._note(name, "foreign", message, number, start, start + len(rows))

    def _check_pts(self, rows: pa.Table, number: int, start: int) -> None:
        pts = rows["pts"].to_numpy()
        first, before = self.times.get(number, (int(pts[0]), None))
        steps = np.diff(pts, prepend=pts[0] - 1 if before is None else before)
        if len(wrong := np.flatnonzero(steps <= 0)):
            at = start + wrong[0]
            self._note("pts", "damaged", f"pts do not ascend at row {at}", number, at, at + 1)
        self.times[number] = (first, int(pts[-1]))

    def _check_status(self, rows: pa.Table, number: int, start: int) -> np.ndarray:
        """Which rows have labels, (N,) bool."""
        ok = pc.is_in(rows["status"], pa.array(LABELED)).to_numpy()
        lost = pc.equal(rows["status"], "decode_error").to_numpy()
        wrong = ~(ok | lost)
        for name in ("mask", "pixels", "codec"):
            wrong |= rows[name].is_valid().to_numpy() != ok
        for name in ONLY_OF_LABELED:
            wrong |= rows[name].is_valid().to_numpy() & ~ok
        sizes = np.minimum(rows["height"].to_numpy(), rows["width"].to_numpy())
        self._note_first("status", "status, mask and pixels contradict each other", wrong, number, start)
        self._note_first("size", "height or width below 1", sizes < 1, number, start)
        unknown = ok & ~pc.fill_null(pc.equal(rows["codec"], CODEC), True).to_numpy()
        if unknown.any():
            at = start + int(np.flatnonzero(unknown)[0])
            self._note("codec", "newer", f"row {at} has a codec that this gsvnet does not know", number, at, at + 1)
        return ok & ~wrong & ~unknown & (sizes >= 1)

    def _check_quality(self, rows: pa.Table, number: int, start: int) -> None:
        """What of drift and of the confidence per class no row can have."""
        has_drift, is_keyframe = rows["drift_agreement"].is_valid().to_numpy(), rows["is_keyframe"].to_numpy()
        wrong = (has_drift & ~is_keyframe) | (has_drift != rows["drift_iou"].is_valid().to_numpy())
        self._note_first("drift", "drift of a frame that is no keyframe, or half of it", wrong, number, start)
        structs = (rows[name].combine_chunks().flatten() for name in PER_CLASS)
        shares = (rows["drift_agreement"].combine_chunks(), *(leaf for struct in structs for leaf in struct))
        outside = np.zeros(len(rows), bool)
        for values in shares:
            found = pc.fill_null(values, 0).to_numpy()
            outside |= ~((found >= 0) & (found <= 1 + ROUNDING))
        self._note_first("shares", "drift or class_confidence outside 0..1", outside, number, start)
        interval = pc.fill_null(rows["keyframe_interval"], 1).to_numpy()
        self._note_first("interval", "keyframe_interval below 1", interval < 1, number, start)

    def _check_pixels(self, rows: pa.Table, ok: np.ndarray, number: int, start: int) -> None:
        total, wrong = np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)
        for counts in rows["pixels"].combine_chunks().flatten():
            pixels = pc.fill_null(counts, 0).to_numpy()
            wrong |= (pixels < 0) | (counts.is_null().to_numpy(zero_copy_only=False) & ok)
            total += pixels
        area = rows["height"].to_numpy().astype(np.int64) * rows["width"].to_numpy()
        wrong |= total > area
        self._note_first("pixels", "pixel counts that no mask of this size can have", wrong & ok, number, start)

    def _decode_sample(self, rows: pa.Table, ok: np.ndarray, number: int, start: int) -> None:
        source = self.sources[number]
        offset = start - source.row
        wanted = {(2 * i + 1) * source.num_rows // (2 * self.sample) for i in range(self.sample)}
        there = np.flatnonzero(ok)  # in place of a lost frame the next one
        places = sorted(np.searchsorted(there, at - offset) for at in wanted if offset <= at < offset + len(rows))
        for at in {int(there[place]) for place in places if place < len(there)}:
            record = rows.select([*MASK_COLUMNS, "pixels", "mask_uncertain"]).slice(at, 1).to_pylist()[0]
            self.num_decoded += 1
            self._decode(record, number, start + at)

    def _decode(self, record: dict[str, Any], number: int, row: int) -> None:
        where, num_classes = f"row {row}", len(self.sources[number].footer.classes)
        try:
            counts = pixel_counts(decode_row(record, where), num_classes)
            if counts.tolist() != list(record["pixels"].values()):
                message = f"{where}: the mask's pixels per class are not those in `pixels`"
                self._note("counts", "damaged", message, number, row, row + 1)
        except (CorruptLabels, ValueError) as error:
            self._note("mask", "damaged", str(error), number, row, row + 1)
        try:
            decode_uncertain(record, where)
        except CorruptLabels as error:
            self._note("uncertain", "damaged", str(error), number, row, row + 1)

    def _note_first(self, check: str, message: str, wrong: np.ndarray, number: int, start: int) -> None:
        if wrong.any():
            at = start + int(np.flatnonzero(wrong)[0])
            self._note(check, "damaged", f"row {at}: {message}", number, at, at + 1)

    def _note(self, check: object, kind: FaultKind, message: str, number: int, start: int, stop: int) -> None:
        """Keep the first fault of each check. start, stop: rows of the file."""
        source = self.sources[number]
        frames = (source.first_frame + int(start) - source.row, source.first_frame + int(stop) - source.row)
        self._found.setdefault(check, Fault(kind=kind, message=message, video=source.footer.video, frames=frames))
