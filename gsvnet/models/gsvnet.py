"""GSVNet: propagate a keyframe's segmentation with guided spatially-varying convolution.

S.-P. Lee, S.-C. Chen, W.-H. Peng, "GSVNet: Guided Spatially-Varying Convolution for Fast Semantic Segmentation on
Video", ICME 2021. Read top to bottom like the paper's figure:

    previous frame, current frame --LightFlow--> flow --warp--> previous logits, where the current frame sees them
    current frame --IntraNetwork--> crude logits of the current frame
    crude logits + edges of the warped logits --GuidingNetwork--> 11 weights per pixel --GuidedFilter--> logits

Everything here runs on the propagation grid (1/8 of the frame as published). The numbers are those of the authors'
code, whose weights load here. Where it differs from the paper, the code is followed:

- an edge is where the label map's Laplacian is not zero; the paper passes the response through a sigmoid;
- 11 taps: the warped logits, their 8 neighbours, a map of zeros, the crude logits; the paper has 8 + 1;
- weights are divided by the sum of all 11, the dead one included, so each step scales the logits by at most 1. That
  gain rides along as one more channel, and confidence divides it out;
- the guide sees the warped logits only through their edges, and the intra network sees the current frame.

Its parts are in `propagation.py`. Beyond the paper, since labeling is offline: frames may draw on the keyframe behind
them too (`references="both"`, see `two_sided.py`), and each chunk's labels may be carried on to the next keyframe,
which shows how far they have drifted (`drift=True`).

Without intra features (`intra=False`, the ablation in the paper's Table 4) the intra network and its tap fall away, and
the guide sees edges alone.

Shapes: B chunks, L frames per chunk, C classes, h w the grid. A *state* is (B, C + 1, h, w) float32: logits, gain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gsvnet.choices import References
from gsvnet.classes import ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.propagation import Propagation, with_gain
from gsvnet.models.runs import Runs, Timeline, make_timeline, whole_chunks
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch, Normalise, Resize, Role, SizeRule, run_images
from gsvnet.models.steps import Views, keep_where
from gsvnet.models.two_sided import Ends, find_detail, find_reach, reach_both_ways
from gsvnet.nn.blocks import equal_batches, resize

REFERENCES: tuple[References, ...] = ("before", "both")


def check_references(references: object) -> None:
    """Raises ModelError for what a frame of GSVNet cannot draw on."""
    if references not in REFERENCES:
        raise ModelError(f"references {references!r}; GSVNet has: {', '.join(REFERENCES)}")


class GSVNet(nn.Module):
    """A keyframe network and its propagation as a VideoSegmenter.

    keyframe_network: any module from (N, 3, H, W) normalised images to (N, C, h', w') logits on any grid.
    keyframe_normalise, frame_normalise: of its input and of the propagation's (published weights: RGB and BGR).
    size_rule: keyframe size and propagation grid; keyframe_size_rule: of the keyframe alone, where it has its own.
    align_corners: corner convention of all logits, True as published. references: "before", or "both": frames
    between two keyframes draw on either. drift: also give what each chunk's labels come to at the next keyframe; with
    "both" it is the frames between that tell. keyframe_batch, frame_batch: most images at once through the keyframe
    network, and through flow and intra.
    """

    def __init__(
        self,
        keyframe_network: nn.Module,
        propagation: Propagation,
        *,
        classes: ClassSet,
        keyframe_normalise: Normalise,
        frame_normalise: Normalise,
        size_rule: SizeRule,
        keyframe_size_rule: SizeRule | None = None,
        resize: Resize = "area",
        align_corners: bool = True,
        references: References = "before",
        drift: bool = False,
        keyframe_batch: int = 8,
        frame_batch: int = 64,
    ) -> None:
        super().__init__()
        if propagation.num_classes != len(classes):
            raise ModelError(f"propagation has {propagation.num_classes} classes, {classes.name} has {len(classes)}")
        check_references(references)
        self.keyframe_network, self.propagation, self.classes = keyframe_network, propagation, classes
        self.keyframe_normalise, self.frame_normalise = keyframe_normalise, frame_normalise
        self.size_rule, self.keyframe_size_rule = size_rule, keyframe_size_rule
        self.resize, self.align_corners = resize, align_corners
        self.references: References = references
        self.drift = drift
        self.keyframe_batch, self.frame_batch = keyframe_batch, frame_batch

    def needs(self, height: int, width: int) -> FrameNeeds:
        """Keyframes at the keyframe network's size, all frames on the propagation grid; and what follows if asked."""
        keyframe_rule = self.keyframe_size_rule or self.size_rule
        return FrameNeeds(
            keyframe_size=keyframe_rule.keyframe_size(height, width),
            frame_size=self.size_rule.grid(height, width),
            resize=self.resize,
            next_keyframe=self.references == "both",
            next_frame=self.references == "both" or self.drift,
        )

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """Keyframes on their own grid, then the other frames of all chunks in lock-step, with their gain.

        Padding runs too and is thrown away: with shapes that never change, a frame's logits do not depend on how
        many of its neighbours are valid.
        """
        valid, states, details = chunks.valid.cpu(), [], []
        assert chunks.frames is not None or not valid[:, 1:].any(), "propagation reads ChunkBatch.frames"
        every_chunk = torch.arange(len(valid))
        for rows, new in equal_batches(len(chunks.keyframes), self.keyframe_batch):
            images = self.keyframe_normalise(chunks.keyframes[rows])
            logits = run_images(self.keyframe_network, images).float()[new]
            if chunks.frames is not None:
                states.append(self.enter_grid(logits, chunks.frames.shape[-2:]))
                if self.references == "both":
                    details.append(find_detail(logits, states[-1], align_corners=self.align_corners))
            own = every_chunk[rows][new]
            yield from self._yield_keyframes(valid, own, logits[: len(own)])
        if chunks.frames is not None and valid.shape[1] > 1:
            timeline = make_timeline(chunks)
            finer = [detail for detail in details if detail is not None]
            keyframes = Ends(state=torch.cat(states), detail=torch.cat(finer) if finer else None)
            behind = keyframes[1:] if len(keyframes.state) > len(valid) else None
            yield from self.propagate(keyframes[: len(valid)], behind, self.view(timeline), whole_chunks(timeline))

    def enter_grid(self, logits: Tensor, grid: Sequence[int]) -> Tensor:
        """State (N, C + 1, h, w) of keyframes' logits (N, C, h', w')."""
        return with_gain(resize(logits, grid, align_corners=self.align_corners))

    def view(self, timeline: Timeline) -> Views:
        """A timeline as the propagation reads it."""
        frames = self.frame_normalise(timeline.frames)
        return Views(propagation=self.propagation, timeline=timeline, frames=frames, batch=self.frame_batch)

    def propagate(self, before: Ends, behind: Ends | None, views: Views, runs: Runs) -> Iterator[LogitsBatch]:
        """All frames of R runs but their keyframes, which are `before`.

        behind: the keyframes that follow, for references "both"; where none follows it may be anything.
        """
        if self.references == "before":
            yield from self.go_forward(before.state, views, runs, arrives=self.drift)
            return
        assert behind is not None, "a frame draws on both sides, so the keyframes behind are needed"
        reach = find_reach(runs, views.timeline)
        for reached in reach_both_ways(views, before, behind, runs, reach, align_corners=self.align_corners):
            nearer = torch.where(reach.nearness[reached.offset] > 0.5, runs.stop, runs.start)
            position = runs.positions(reached.offset)
            yield from self._yield_rows(
                views.timeline, runs, reached.rows, position, nearer, reached.state, sides=reached.sides
            )

    def go_forward(self, state: Tensor, views: Views, runs: Runs, *, arrives: bool) -> Iterator[LogitsBatch]:
        """Advance all runs' states together, one position at a time; where it `arrives`, onto the next keyframe too.

        A lost frame is stepped over: its run keeps the state, and the next frame's flow leads to the last valid one.
        """
        timeline = views.timeline
        arriving = runs.followed & arrives
        offsets = range(1, runs.longest + (arrives and timeline.has_next))
        if not offsets:
            return
        flow = views.flow(runs.stepped_to(offsets), timeline.before)
        intra = views.intra(runs.stepped_to(offsets))
        for offset in offsets:
            position = runs.positions(offset)
            crude = None if intra is None else intra.at(runs.chunk, position)
            advanced = self.propagation.step(state, flow.at(runs.chunk, position), crude)
            here = runs.inside(offset, timeline.valid)
            yield from self._yield_rows(timeline, runs, here, position, runs.start, advanced)
            there = arriving & (runs.start + offset == runs.stop)
            yield from self._yield_rows(timeline, runs, there, runs.start, runs.start, advanced, role="arrival")
            state = keep_where(~here, state, advanced)

    def _yield_keyframes(self, valid: Tensor, chunk: Tensor, logits: Tensor) -> Iterator[LogitsBatch]:
        """One LogitsBatch of the chunks (N,) whose keyframe is valid, if any is."""
        here = valid[chunk, 0]
        if here.any():
            rows = slice(None) if here.all() else here.nonzero()[:, 0]  # a slice copies nothing
            yield LogitsBatch(
                chunk=chunk[rows],
                position=torch.zeros_like(chunk[rows]),
                logits=logits[rows],
                align_corners=self.align_corners,
            )

    def _yield_rows(
        self,
        timeline: Timeline,
        runs: Runs,
        here: Tensor,
        position: Tensor,
        keyframe: Tensor,
        state: Tensor,
        *,
        sides: Tensor | None = None,
        role: Role = "labels",
    ) -> Iterator[LogitsBatch]:
        """One LogitsBatch of the runs that `here` (R,) says, if any. position, keyframe: (R,), in the timeline."""
        if here.any():
            rows = slice(None) if here.all() else here.nonzero()[:, 0]
            yield LogitsBatch(
                chunk=runs.chunk[rows],
                position=position[rows],
                logits=state[rows, :-1],
                gain=state[rows, -1:],
                keyframe=timeline.index[runs.chunk[rows], keyframe[rows].clamp(max=timeline.index.shape[1] - 1)],
                start=runs.start[rows],
                sides=None if sides is None else sides[rows],
                role=role,
                align_corners=self.align_corners,
            )
