"""Labels smoothed along flow: the frames around a frame are brought to it and vote on the class of every pixel.

Offline, what comes next is known too. A class that flickers for a frame is outvoted by the same place before and after.
It takes images and labels, whichever network these are of, and costs no run of one. What it wants is what the temporal
losses want of a network in training (Liu et al., ECCV 2020), but afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.video.flow import leads_back, load_opencv

MOST_REACH = 8  # frames; flow is followed from each to the next, and gets lost on the way
FLOW_ROWS = 180  # at most, of the images between which flow is estimated
FLOW_SIDE = 16  # at least, of both sides: OpenCV 5.0 crashes where 8x8 patches do not fit into the image at half size
OWN_WEIGHT = 1.25  # of a frame's own labels; of the frames next to it 1, falling linearly beyond the reach to 0
_ASTRAY = -1e6  # flow that is not valid: even a 32nd of it, as interpolation rounds, leads out of every image

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class NeighbourFlow:
    """Flow between two neighbouring frames, each (h, w, 2) float32, (dx, dy) in pixels of its own grid.

    to_next: what is at (x, y) in the earlier frame is at (x, y) + to_next in the later one; to_previous: the way back.
    Where it is not valid it leads far out of the image.
    """

    to_next: np.ndarray
    to_previous: np.ndarray


@dataclass(frozen=True, kw_only=True)
class FlowingLabels:
    """Labels (H, W) uint8 of a frame, and the flow between the frame before it and it; None where there is none."""

    labels: np.ndarray
    flow: NeighbourFlow | None


def smooth_labels(frames: Iterable[tuple[np.ndarray, np.ndarray]], *, reach: int) -> Iterator[np.ndarray]:
    """Labels (H, W) uint8 of the consecutive frames of a clip, smoothed over `reach` frames on either side.

    frames: labels (H, W) uint8 and image (h, w, 3) uint8 RGB of each, in display order. 2 reach + 1 of them are held.
    reach 0: the labels as they are. Raises ConfigError for another reach than 0..8, MissingExtra without OpenCV.
    """
    check_reach(reach)
    if reach == 0:
        return (labels for labels, _ in frames)
    windows = neighbourhoods(_with_flow(frames), reach)
    return (smooth_frame(before, own, after, reach=reach) for before, own, after in windows)


def check_reach(reach: int) -> None:
    """Raise ConfigError for a number of frames that labels cannot be smoothed over."""
    if not 0 <= reach <= MOST_REACH:
        raise ConfigError(f"labels smoothed over {reach} frames on either side; allowed: 0..{MOST_REACH}")


def neighbourhoods(items: Iterable[Item], reach: int) -> Iterator[tuple[list[Item], Item, list[Item]]]:
    """Each item between the up to `reach` items before it and after it, both the nearest first.

    >>> [f"{before} {own} {after}" for before, own, after in neighbourhoods("abc", 1)]
    ["[] a ['b']", "['a'] b ['c']", "['b'] c []"]
    """
    passed: deque[Item] = deque(maxlen=reach)
    ahead: deque[Item] = deque()

    def first() -> tuple[list[Item], Item, list[Item]]:
        own = ahead.popleft()
        found = [*reversed(passed)], own, [*ahead]
        passed.append(own)
        return found

    for item in items:
        ahead.append(item)
        if len(ahead) > reach:
            yield first()
    while ahead:
        yield first()


def flow_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) in pixels of the images between which flow is estimated, of frames of this size."""
    rows = min(height, FLOW_ROWS)
    return max(FLOW_SIDE, rows), max(FLOW_SIDE, round(width * rows / height))


def to_grey(image: np.ndarray) -> np.ndarray:
    """Luma (h, w) uint8 of `flow_size`, averaged, of an image (H, W, 3) uint8 RGB of that size or a larger one."""
    cv2 = load_opencv("smooth")
    height, width = flow_size(*image.shape[:2])
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return grey if grey.shape == (height, width) else cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)


def estimate_neighbour_flow(earlier: np.ndarray, later: np.ndarray) -> NeighbourFlow:
    """Flow between two frames, given as `to_grey` makes them, both ways; valid where one undoes the other.

    Dense inverse search (Kroeger et al., ECCV 2016) down to every second pixel.
    """
    cv2 = load_opencv("smooth")
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    to_next, to_previous = search.calc(earlier, later, None), search.calc(later, earlier, None)
    forth_and_back = leads_back(to_next.transpose(2, 0, 1), to_previous)
    back_and_forth = leads_back(to_previous.transpose(2, 0, 1), to_next)
    to_next[~forth_and_back], to_previous[~back_and_forth] = _ASTRAY, _ASTRAY
    return NeighbourFlow(to_next=to_next, to_previous=to_previous)


def smooth_frame(
    before: Sequence[FlowingLabels], own: FlowingLabels, after: Sequence[FlowingLabels], *, reach: int
) -> np.ndarray:
    """Labels (H, W) uint8 of a frame after the vote of those around it, the nearest first, up to `reach` each.

    A frame's own labels stand where they have the most weight, on a tie, and where nobody else knows the place. A
    neighbour votes where valid flow leads to it from frame to frame; beyond a gap in the flow none does.
    """
    flows = [own.flow, *(frame.flow for frame in before)]
    back = [(frame.labels, None if flow is None else flow.to_previous) for frame, flow in zip(before, flows)]
    ahead = [(frame.labels, None if frame.flow is None else frame.flow.to_next) for frame in after]
    voters = [*_bring(back, reach), *_bring(ahead, reach)]
    return _vote(own.labels, voters, own_weight=OWN_WEIGHT * reach)


def _with_flow(frames: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[FlowingLabels]:
    earlier: np.ndarray | None = None
    for labels, image in frames:
        grey = to_grey(image)
        yield FlowingLabels(labels=labels, flow=None if earlier is None else estimate_neighbour_flow(earlier, grey))
        earlier = grey


def _bring(steps: Sequence[tuple[np.ndarray, np.ndarray | None]], reach: int) -> Iterator[tuple[np.ndarray, int]]:
    """Neighbours' labels (H, W) as the frame sees them, 255 where it does not, and their weights, reach to 1.

    steps: labels (H, W) of each and the flow (h, w, 2) that leads there from the one before.
    """
    cv2 = load_opencv("smooth")
    path: np.ndarray | None = None
    for weight, (labels, step) in zip(range(reach, 0, -1), steps):
        if step is None:
            return
        path = step if path is None else path + _sample(step, path)
        where = _enlarge(path, *labels.shape)
        where += _pixels(*labels.shape)
        brought = cv2.remap(labels, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORE)
        yield brought, weight


def _enlarge(path: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width, 2): a path (h, w, 2) on a larger grid, in pixels of that; a copy."""
    scale = np.array((width / path.shape[1], height / path.shape[0]), np.float32)
    return load_opencv("smooth").resize(path * scale, (width, height))  # bilinear


def _sample(flow: np.ndarray, path: np.ndarray) -> np.ndarray:
    """The flow (h, w, 2) where the path (h, w, 2) leads; astray where that is out of the image."""
    cv2 = load_opencv("smooth")
    beyond = (_ASTRAY, _ASTRAY)
    where = path + _pixels(*path.shape[:2])
    return cv2.remap(flow, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=beyond)


@lru_cache(maxsize=8)
def _pixels(height: int, width: int) -> np.ndarray:
    """(height, width, 2) float32: x and y of every pixel."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.dstack((x, y))


def _vote(own: np.ndarray, voters: Sequence[tuple[np.ndarray, int]], *, own_weight: float) -> np.ndarray:
    """(H, W) uint8: of every pixel the class with the largest weight of votes. 255 of a voter is no vote."""
    disputed = np.zeros(own.shape, bool)
    for labels, _ in voters:
        disputed |= (labels != own) & (labels != IGNORE)
    where = np.flatnonzero(disputed)  # few: only there is anything to count
    ballots = [(own.take(where), own_weight), *((labels.take(where), weight) for labels, weight in voters)]
    winner = ballots[0][0].copy()
    most = np.full(len(where), -np.inf, np.float32)
    for choice, _ in ballots:
        votes = sum(weight * (labels == choice).astype(np.float32) for labels, weight in ballots)
        wins = (votes > most) & (choice != IGNORE)
        winner[wins], most[wins] = choice[wins], votes[wins]
    smoothed = own.copy()
    smoothed.put(where, winner)
    return smoothed
