from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.evaluation import speed
from gsvnet.evaluation.speed import Speed, measure_speed
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch
from gsvnet.models.spec import build_model

KEYFRAME_S, FRAME_S = 0.25, 0.0625


class Timed(nn.Module):
    """Labels nothing and takes exactly KEYFRAME_S per keyframe and FRAME_S per other frame of its own clock."""

    classes = CAMVID

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now, self.pace, self.runs = 0.0, 1.0, 0
        monkeypatch.setattr(speed.time, "perf_counter", lambda: self.now)

    def needs(self, height: int, width: int) -> FrameNeeds:
        return FrameNeeds(keyframe_size=(height, width), frame_size=(height // 8, width // 8))

    def segment(self, chunks):
        chunk, position = chunks.valid.nonzero(as_tuple=True)
        self.runs += 1
        self.dtype = torch.nn.functional.conv2d(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).dtype
        self.now += self.pace * torch.where(position == 0, KEYFRAME_S, FRAME_S).sum().item()
        yield LogitsBatch(chunk=chunk, position=position, logits=torch.zeros(len(chunk), 11, 1, 1))


def measure(model: nn.Module, **changes) -> Speed:
    return measure_speed(model, **{"height": 64, "width": 96, "keyframe_interval": 5, "batch_chunks": 2} | changes)


def test_times_are_per_frame_and_the_ratio_is_to_keyframes_alone(monkeypatch):
    result = measure(Timed(monkeypatch))
    assert (result.keyframe_s, result.frame_s) == (KEYFRAME_S, FRAME_S)
    assert result.frames_per_s == 5 / (KEYFRAME_S + 4 * FRAME_S) == 10
    assert result.speedup == 2.5


class TimedOnBothSides(Timed):
    """Runs the keyframe after the batch too."""

    def needs(self, height: int, width: int) -> FrameNeeds:
        return FrameNeeds(keyframe_size=(height, width), frame_size=(height // 8, width // 8), next_keyframe=True)

    def segment(self, chunks):
        self.now += self.pace * KEYFRAME_S * (len(chunks.keyframes) - len(chunks.valid))
        return super().segment(chunks)


def test_the_keyframe_after_a_batch_is_in_the_frames_per_second_and_not_in_the_seconds_of_a_keyframe(monkeypatch):
    result = measure(TimedOnBothSides(monkeypatch))
    assert (result.keyframe_s, result.frame_s) == (KEYFRAME_S, FRAME_S)
    assert result.frames_per_s == 2 * 5 / (3 * KEYFRAME_S + 8 * FRAME_S) == 8
    assert result.speedup == 2.0


def test_a_machine_that_slows_down_for_one_round_changes_nothing(monkeypatch):
    model = Timed(monkeypatch)
    segment = model.segment

    def stumble(chunks):
        model.pace = 50.0 if model.runs in (4, 5) else 1.0
        return segment(chunks)

    monkeypatch.setattr(model, "segment", stumble)
    assert measure(model, seconds=0.0).frame_s == FRAME_S


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (9.0, 6)])
def test_rounds_fill_the_time_and_are_at_least_three(monkeypatch, seconds, rounds):
    model = Timed(monkeypatch)  # a round takes 2 * (0.25 + 0.5) = 1.5 s
    assert measure(model, seconds=seconds).rounds == rounds
    assert model.runs == 2 * (rounds + 1)


def test_interval_one_has_no_other_frames(monkeypatch):
    result = measure(Timed(monkeypatch), keyframe_interval=1)
    assert (result.frame_s, result.speedup, result.frames_per_s) == (None, 1.0, 4.0)
    assert "other frames" not in result.describe()


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_convolutions(monkeypatch, precision, dtype):
    model = Timed(monkeypatch)
    measure(model, precision=precision)
    assert model.dtype == dtype


def test_the_line_for_people_says_where_and_how(monkeypatch):
    line = measure(Timed(monkeypatch)).describe()
    assert line.startswith("10 frames/s at L=5, 2.50 x per-frame labeling (keyframe 250 ms, other frames 62.5 ms;")
    assert f"cpu, {torch.get_num_threads()} CPU threads, fp32" in line


def test_a_real_network_runs_and_its_speed_is_readable_as_json():
    model = build_model(PUBLISHED["gsvnet-bisenet"]).eval()
    read = json.loads(json.dumps(measure(model, seconds=0.0).to_dict()))
    assert read["keyframe_s"] > 0
    assert read["frames_per_s"] > 0
    assert (read["size"], read["rounds"], read["device"]) == ([64, 96], 3, "cpu")


@pytest.mark.gpu
def test_a_gpu_is_waited_for_and_named():
    model = build_model(PUBLISHED["gsvnet-swiftnet"]).eval().cuda()
    result = measure(model, height=512, width=1024, device="cuda", precision="bf16", seconds=0.5)
    assert result.device == f"cuda ({torch.cuda.get_device_name()})"
    assert result.keyframe_s > result.frame_s > 0


@pytest.mark.parametrize(
    ("change", "message"), [({"batch_chunks": 0}, "batch chunks 0"), ({"precision": "fp8"}, "precision 'fp8'")]
)
def test_bad_arguments_are_refused(monkeypatch, change, message):
    with pytest.raises(ConfigError, match=message):
        measure(Timed(monkeypatch), **change)
