"""Whether an output's labels are sound and complete: gathers what there is, has each file inspected, adds it up."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial

from gsvnet.chunks import shard_name
from gsvnet.errors import CorruptLabels
from gsvnet.maintenance.account import COMPACTED_REMEDIES, Piece, PlannedShard, PlannedVideo, Remedies, check_video
from gsvnet.maintenance.config import VerifyConfig
from gsvnet.maintenance.findings import Findings, Verification
from gsvnet.store.committed import Committed
from gsvnet.store.filesystem import has_object
from gsvnet.store.inspect_file import Expected, Inspected, inspect_footer, inspect_whole
from gsvnet.store.job import JobRecord, list_failures, list_plans, read_job, read_plan
from gsvnet.store.layout import COMPACTED, SUCCESS, derived_uri, parse_label_path
from gsvnet.store.manifest import read_manifest, read_manifest_time, write_derived
from gsvnet.store.scan import StoredLabels, list_stored
from gsvnet.store.threads import map_in_threads
from gsvnet.uris import redact_uri

NUM_THREADS = 8
_IF_WRITTEN_ANEW = "(if it was written anew, delete _manifest.parquet)"

Progress = Callable[[int, int], None]
"""Hears of files: how many are done, and how many there are so far."""


def verify_output(config: VerifyConfig, *, progress: Progress = lambda done, total: None) -> Verification:
    """What was found in an output. With config.write the derived files are made anew if all there is is sound.

    Raises StoreError when there is no output of this program, StoreUnavailable, StoreRefused.
    """
    started = time.monotonic()
    job = read_job(config.out, config.storage_options)
    check = _OutputCheck(config, job)
    check.inspect_files(progress)
    check.compare()
    result = replace(check.result(), seconds=time.monotonic() - started)
    if not config.write or not result.is_sound:
        return result
    write_derived(config.out, complete=result.deserves_success, storage_options=config.storage_options, rebuild=True)
    return replace(result, written=True, seconds=time.monotonic() - started)


class _OutputCheck:
    """One output under inspection: what was found so far."""

    def __init__(self, config: VerifyConfig, job: JobRecord) -> None:
        self.config, self.job, self.expected = config, job, Expected.of(job)
        self.remedies = COMPACTED_REMEDIES if self.expected.is_compacted else Remedies()
        self.findings = Findings()
        self.pieces: dict[str, list[Piece]] = defaultdict(list)
        self.manifest = read_manifest(config.out, config.storage_options)
        self.entry_of = {path: number for number, path in enumerate(self.manifest["path"].to_pylist())}
        self.seen: set[str] = set()
        self.files = self.rows = self.masks = self.num_bytes_read = 0
        self.unlisted = self.written_anew = self.leftovers = self.planned = 0
        self.unplanned: list[str] = []
        self.had_success = has_object(derived_uri(config.out, SUCCESS), config.storage_options)

    def inspect_files(self, progress: Progress) -> None:
        """Look at every file below labels/."""
        inspect = partial(inspect_whole, sample=self.config.sample) if not self.config.quick else inspect_footer
        total = 0
        for page in list_stored(self.config.out, self.config.storage_options):
            files = [file for file in page if self._is_label_file(file)]
            total += len(files)
            inspected = map_in_threads(lambda file: inspect(file, self.expected), files, num_threads=NUM_THREADS)
            for file, found in zip(files, inspected, strict=True):
                self._note_file(file, found)
                self.files += 1
                progress(self.files, total)

    def compare(self) -> None:
        """Hold what was found against plans, the manifest and recorded failures."""
        plans, failures, gone = self._read_plans(), self._read_failures(), self._find_gone()
        for video in sorted({*self.pieces, *plans, *failures, *gone}):
            check_video(
                video,
                self.pieces.get(video, ()),
                plans.get(video),
                gone=gone.get(video, {}),
                failed=failures.get(video, {}),
                remedies=self.remedies,
                findings=self.findings,
            )
        if self.expected.is_compacted:
            self._check_compacted_files()
        self.planned = len(plans)
        self.unplanned = sorted(v for v in self.pieces.keys() - plans.keys() if None not in failures.get(v, {}))

    def result(self) -> Verification:
        """All that was found."""
        found = Verification(
            out=redact_uri(self.config.out),
            quick=self.config.quick,
            files=self.files,
            rows=self.rows,
            videos=len(self.pieces),
            planned=self.planned,
            unplanned=len(self.unplanned),
            masks=self.masks,
            num_bytes_read=self.num_bytes_read,
            seconds=0.0,
            findings=tuple(self.findings.kept),
            counts=dict(self.findings.counts),
            notes=(),
            had_success=self.had_success,
        )
        self._add_notes(found)
        return replace(found, notes=tuple(self.findings.notes))

    def _is_label_file(self, file: StoredLabels) -> bool:
        place = parse_label_path(file.name)
        if place is not None and (place[0] == COMPACTED) == self.expected.is_compacted:
            return True
        if file.name.rpartition("/")[2].startswith("."):
            self.leftovers += 1
        else:
            message = "no label file of this output, and readers may take it for one; delete it, or move it elsewhere"
            self.findings.add("foreign", message, path=file.name)
        return False

    def _note_file(self, file: StoredLabels, found: Inspected) -> None:
        self.rows, self.masks = self.rows + found.num_rows, self.masks + found.num_decoded
        self.num_bytes_read += found.num_bytes_read
        self.seen.add(file.name)
        for fault in found.faults:
            remedy = "upgrade gsvnet" if fault.kind == "newer" else self.remedies.replace
            message = f"{fault.message.removeprefix(file.name).lstrip(', ')}; {remedy}"
            self.findings.add(fault.kind, message, path=file.name, video=fault.video, frames=fault.frames)
        changed = self._compare_with_manifest(file, found)
        if changed is not None and not found.faults:
            self.findings.add("damaged", f"{changed}; {self.remedies.replace}", path=file.name)
        for number, source in enumerate(found.sources):
            piece = Piece(
                path=file.name,
                shard=source.footer.shard,
                first_frame=source.first_frame,
                stop_frame=source.stop_frame,
                times=found.times[number] if found.times else None,
                identity=source.footer.identity,
            )
            self.pieces[source.footer.video].append(piece)
        if not found.sources and not self.expected.is_compacted:
            folder, index = parse_label_path(file.name) or ("", 0)
            self.pieces[folder].append(Piece(path=file.name, shard=index, is_readable=False))

    def _compare_with_manifest(self, file: StoredLabels, found: Inspected) -> str | None:
        number = self.entry_of.get(file.name)
        if number is None:
            self.unlisted += 1
            return None
        stated = self.manifest["bytes"][number].as_py()
        if file.num_bytes != stated:
            if found.sha256 and not found.faults and file.modified > self._manifest_time:
                self.written_anew += 1  # decay changes no size; with the same size, only the hash may tell of it
                return None
            return f"has {file.num_bytes} bytes, the manifest says {stated} {_IF_WRITTEN_ANEW}"
        if found.sha256 not in ("", self.manifest["sha256"][number].as_py()):
            return f"its sha256 is not the manifest's: bytes changed {_IF_WRITTEN_ANEW}"
        return None

    @cached_property
    def _manifest_time(self) -> float:
        return read_manifest_time(self.config.out, self.config.storage_options)

    def _read_plans(self) -> dict[str, PlannedVideo]:
        config = self.config

        def read(video: str) -> PlannedVideo | None:
            try:
                plan = read_plan(config.out, video, config.storage_options) or {}
                ranges = [(int(shard["first_frame"]), int(shard["num_frames"])) for shard in plan["shards"]]
                identity = str(plan.get("video", {}).get("identity", ""))
            except (CorruptLabels, AttributeError, KeyError, TypeError, ValueError):
                return None
            shards = [PlannedShard(first_frame=first, stop_frame=first + num) for first, num in ranges]
            return PlannedVideo(shards=shards, identity=identity)

        names, plans = list_plans(config.out, config.storage_options), {}
        for video, plan in zip(names, map_in_threads(read, names, num_threads=4 * NUM_THREADS), strict=True):
            if plan is None:
                message = f"no plan of this version; delete it and {self.remedies.plan}"
                self.findings.add("damaged", message, path=f"_plan/{video}.json", video=video)
            else:
                plans[video] = plan
        return plans

    def _read_failures(self) -> dict[str, dict[int | None, str]]:
        committed = Committed()
        for video, pieces in self.pieces.items():
            for piece in pieces:
                committed.add(video, shard_name(piece.shard))
        found: dict[str, dict[int | None, str]] = defaultdict(dict)
        try:
            for failure in list_failures(self.config.out, self.config.storage_options, committed=committed):
                shard = None if failure.shard is None else int(failure.shard)
                found[failure.video][shard] = f"{failure.error}: {failure.message}"
        except (CorruptLabels, ValueError) as error:
            self.findings.add("damaged", f"{error}; delete it", path="_failed")
        return found

    def _find_gone(self) -> dict[str, dict[int, tuple[int, int]]]:
        """Frames of shards that the manifest lists and the listing does not, by video and shard."""
        gone: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
        if self.entry_of.keys() <= self.seen:
            return gone
        there = {(video, piece.shard) for video, pieces in self.pieces.items() for piece in pieces}
        columns = (self.manifest[name].to_pylist() for name in ("path", "video", "shard", "first_frame", "rows"))
        for path, video, shard, first, rows in zip(*columns):
            if path not in self.seen and shard.isdecimal() and (video, int(shard)) not in there:
                gone[video][int(shard)] = (first, first + rows)
        return gone

    def _check_compacted_files(self) -> None:
        stated = int((self.job.compacted or {}).get("files", 0))
        for index in range(stated):
            name = f"labels/{COMPACTED}/{shard_name(index)}.parquet"
            if name not in self.seen:
                self.findings.add("missing", f"not there; {self.remedies.complete}", path=name)

    def _add_notes(self, found: Verification) -> None:
        notes = self.findings.notes
        if self.unplanned:
            named = ", ".join(self.unplanned[:5]) + (", ..." if len(self.unplanned) > 5 else "")
            notes.append(f"without a plan, judged by footers: {named}; {self.remedies.plan}")
        if self.files and not self.entry_of:
            notes.append("no manifest that can be read, so no sizes and hashes to compare with; --write makes it anew")
        elif self.unlisted:
            notes.append(f"{self.unlisted} label files are not in the manifest: it is older; --write makes it anew")
        if self.written_anew:
            notes.append(f"{self.written_anew} label files were written after the manifest; --write makes it anew")
        if self.leftovers:
            notes.append(f"{self.leftovers} temporary files of writers; the next run of the job removes dead ones'")
        if found.had_success and not found.deserves_success:
            is_written = self.config.write and found.is_sound
            what_then = "so --write took it away" if is_written else "--write takes it away"
            notes.append(f"_SUCCESS is older than what is known to be missing; {what_then}")
