"""How far two outputs agree about the same videos: `gsvnet diff`.

The first output stands in for the truth: pixels that it ignores are not counted, pixels that only the second ignores
count as different. Frames that either lost in decoding are left out.

With a bound (`--max-differing`) it answers whether two runs, on a CPU and on a GPU for instance, gave the same labels.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import Progress

from gsvnet.chunks import size_in_identity
from gsvnet.classes import IGNORE, ClassSet, merge_table
from gsvnet.errors import ConfigError
from gsvnet.evaluation.config import DiffConfig
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.label_diff_result import FrameAgreement, LabelDiff, OneSided, show_diff
from gsvnet.reading.pictures import fit_labels
from gsvnet.store.agreement_file import AgreementWriter
from gsvnet.store.pairs import match_videos
from gsvnet.store.read import LabeledFrame, open_labels
from gsvnet.uris import redact_uri


def diff(config: DiffConfig, console: Console) -> int:
    """Compare two sets of labels of the same videos and print how far they agree.

    Exit code 0, also if they differ; 1 if they differ by more than `config.max_differing` allows.

    Raises ConfigError where nothing can be compared, or `config.frames` exists.
    """
    with (
        AgreementWriter(config.frames) if config.frames else contextlib.nullcontext() as frames,
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("comparing", total=None)
        comparison = _Comparison(config)
        for done, (frame, total) in enumerate(comparison.run(), start=1):
            if frames is not None:
                frames.append(frame.video, frame.frame_index, frame.agreement)
            bar.update(task, completed=done, total=total)
        result = comparison.result()
    if config.json:
        console.out(json.dumps(result.to_dict(), indent=1), highlight=False)
    else:
        show_diff(result, console)
    return 1 if result.keeps_bound is False else 0


@dataclass(frozen=True, kw_only=True)
class Relabeling:
    """Both outputs' ids as ids of `classes`: lookups (256,) uint8, 255 for 255 and for what is no class.

    words: what was done, "" for nothing.
    """

    classes: ClassSet
    first: np.ndarray
    second: np.ndarray
    words: str = ""


class _Comparison:
    """Two outputs being compared: counts so far."""

    def __init__(self, config: DiffConfig) -> None:
        self.config, self._started = config, time.monotonic()
        self.first = open_labels(config.out1, config.storage_options)
        self.second = open_labels(config.out2, config.storage_options)
        self.relabeling = _relate_classes(self.first.classes, self.second.classes)
        self.matrix = ConfusionMatrix(len(self.relabeling.classes))
        self.by_distance: dict[int | None, ConfusionMatrix] = {}
        self.pairs = match_videos(self.first, self.second, config.video)
        self.one_sided: list[OneSided] = []
        self.worst: list[tuple[float, int, FrameAgreement]] = []
        self.compared = self.equal = self.lost = self.lost_in_one = self.resized = 0

    def run(self) -> Iterator[tuple[FrameAgreement, int]]:
        """Each compared frame, in order, and how many there will be in all, lost ones too.

        Raises ConfigError where no frame is in both, or where one frame has two pts.
        """
        common = {pair: self._common_frames(*pair) for pair in self.pairs}
        total = sum(map(len, common.values()))
        if total == 0:
            raise ConfigError("the outputs have no frame in common" + self._every_in_words())
        for (video, other), indices in common.items():
            for first, second in zip(self.first.stream(video, indices), self.second.stream(other, indices)):
                if first.row.pts != second.row.pts:
                    raise ConfigError(
                        f"frame {first.row.frame_index} of {video} has pts {first.row.pts} in "
                        f"{redact_uri(self.config.out1)} and {second.row.pts} in {redact_uri(self.config.out2)}: "
                        "they were made from different videos"
                    )
                labeled = [not frame.row.is_lost for frame in (first, second)]
                if not all(labeled):
                    self.lost += 1
                    self.lost_in_one += any(labeled)
                    continue
                yield self._compare(first, second), total

    def result(self) -> LabelDiff:
        """What the counts come to."""
        first, second = set(self.first.videos), set(self.second.videos)
        chosen = bool(self.config.video)
        return LabelDiff(
            out1=redact_uri(self.config.out1),
            out2=redact_uri(self.config.out2),
            classes=self.relabeling.classes.names,
            merged=self.relabeling.words,
            every=self.config.every,
            videos=tuple(video for video, _ in self.pairs),
            videos_of_other_size=tuple(video for video, other in self.pairs if self._has_other_size(video, other)),
            videos_only_in_1=() if chosen else tuple(sorted(first - {video for video, _ in self.pairs})),
            videos_only_in_2=() if chosen else tuple(sorted(second - {other for _, other in self.pairs})),
            frames=self.compared,
            frames_equal=self.equal,
            frames_lost=self.lost,
            frames_lost_in_one=self.lost_in_one,
            frames_resized=self.resized,
            one_sided=tuple(self.one_sided),
            matrix=self.matrix,
            by_distance=dict(sorted(self.by_distance.items(), key=lambda item: (item[0] is None, item[0] or 0))),
            worst=tuple(frame for _, _, frame in sorted(self.worst, key=lambda each: (-each[0], -each[1]))),
            max_differing=self.config.max_differing,
            seconds=time.monotonic() - self._started,
        )

    def _compare(self, first: LabeledFrame, second: LabeledFrame) -> FrameAgreement:
        truth, labels = _at_smaller_size(first.labels, second.labels)
        self.resized += first.labels.shape != second.labels.shape
        counts = count_pairs(truth, labels, self.relabeling)
        distance = second.row.keyframe_distance
        per_distance = self.by_distance.setdefault(distance, ConfusionMatrix(self.matrix.num_classes))
        self.matrix.counts += counts
        per_distance.counts += counts
        counted, same = int(counts.sum()), int(np.trace(counts))
        self.compared += 1
        self.equal += counted == same
        frame = FrameAgreement(
            video=first.video,
            frame_index=first.row.frame_index,
            time_s=first.row.time_s,
            agreement=same / counted if counted else None,
        )
        if frame.agreement is not None and frame.agreement < 1 and self.config.worst:
            keep = heapq.heappush if len(self.worst) < self.config.worst else heapq.heappushpop
            keep(self.worst, (-frame.agreement, -self.compared, frame))
        return frame

    def _common_frames(self, video: str, other: str) -> np.ndarray:
        """Indices of the frames that both have and that are asked for; those that one has alone are noted."""
        both = []
        for labels, name in ((self.first, video), (self.second, other)):
            indices = labels.indices(name)
            both.append(indices[indices % self.config.every == 0])
        for number, (own, others) in enumerate((both, both[::-1]), start=1):
            alone = np.setdiff1d(own, others, assume_unique=True)
            if len(alone):
                runs = np.split(alone, np.flatnonzero(np.diff(alone) > self.config.every) + 1)
                ranges = tuple((int(run[0]), int(run[-1]) + 1) for run in runs)
                self.one_sided.append(OneSided(out=number, video=video, frames=len(alone), ranges=ranges[:10]))
        return np.intersect1d(both[0], both[1], assume_unique=True)

    def _has_other_size(self, video: str, other: str) -> bool:
        """Whether the files that were labeled are known not to have been equally long."""
        sides = (self.first, video), (self.second, other)
        sizes = {size_in_identity(labels.footer(name).identity) for labels, name in sides}
        return len(sizes) > 1 and None not in sizes

    def _every_in_words(self) -> str:
        return f" among every {self.config.every}th" if self.config.every > 1 else ""


def count_pairs(truth: np.ndarray, labels: np.ndarray, relabeling: Relabeling) -> np.ndarray:
    """How often each true class is labeled as which: (C, C + 1) int64 like `ConfusionMatrix.counts`.

    truth, labels: (H, W) uint8, own ids of the two outputs or 255. Counted by runs of pixels in which neither changes:
    several times faster than pixel by pixel. Raises ConfigError for an id that is no class.
    """
    truth, labels = truth.reshape(-1), labels.reshape(-1)
    changes = np.flatnonzero((truth[1:] != truth[:-1]) | (labels[1:] != labels[:-1])) + 1
    starts = np.concatenate([[0], changes])
    lengths = np.diff(starts, append=len(truth))
    num_classes = len(relabeling.classes)
    ids, others = (
        _relabel(found[starts], table) for found, table in ((truth, relabeling.first), (labels, relabeling.second))
    )
    counted = ids != IGNORE
    pairs = ids[counted].astype(np.int64) * (num_classes + 1) + np.minimum(others[counted], num_classes)
    counts = np.bincount(pairs, weights=lengths[counted], minlength=num_classes * (num_classes + 1))
    return counts.astype(np.int64).reshape(num_classes, num_classes + 1)


def _relabel(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    found = table[ids]
    wrong = (found == IGNORE) & (ids != IGNORE)
    if wrong.any():
        raise ConfigError(f"a mask has class id {ids[wrong][0]}, which the job does not have; gsvnet verify says more")
    return found


def _relate_classes(first: ClassSet, second: ClassSet) -> Relabeling:
    """Ids of both as ids of one of them. Raises ConfigError where neither's classes merge into the other's."""
    own1, own2 = merge_table(first, first), merge_table(second, second)
    if first.identifiers == second.identifiers:
        return Relabeling(classes=first, first=own1, second=own2)
    with contextlib.suppress(ConfigError):
        words = f"classes of OUT2 ({second.name}) were merged into those of OUT1 ({first.name})"
        return Relabeling(classes=first, first=own1, second=merge_table(second, first), words=words)
    with contextlib.suppress(ConfigError):
        words = f"classes of OUT1 ({first.name}) were merged into those of OUT2 ({second.name})"
        return Relabeling(classes=second, first=merge_table(first, second), second=own2, words=words)
    raise ConfigError(
        f"the outputs have classes that cannot be compared: {first.name} ({', '.join(first.identifiers)}) "
        f"and {second.name} ({', '.join(second.identifiers)})"
    )


def _at_smaller_size(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if first.size > second.size:
        return fit_labels(first, second.shape), second
    return first, second if first.shape == second.shape else fit_labels(second, first.shape)
