"""Two processes on the CPU against one: the same views and clips, the same weights in the end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.models.bisenetv1 import BiSeNetV1
from gsvnet.models.propagation import Propagation
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.segmenter import Normalise, PerFrame
from gsvnet.models.spec import KEYFRAME_NETWORKS
from gsvnet.training import parallel
from gsvnet.training.clips import VideoClips
from gsvnet.training.keyframe import KeyframeTraining, train_keyframe
from gsvnet.training.losses import StillLoss
from gsvnet.training.propagation import PropagationTraining, train_propagation
from gsvnet.training.start import add_auxiliary_heads
from gsvnet.training.stills import Stills
from gsvnet.training.tdnet_loss import TdnetLoss, build_auxiliary_heads
from gsvnet.training.tdnet_runs import RunBatch
from gsvnet.training.tdnet_start import start_tdnet
from tests.s3_servers import free_ports

STILLS = KeyframeTraining(
    epochs=3, batch_size=4, crop=(16, 24), warmup_steps=2, learning_rate=0.02, precision="fp32", weight_temper=1e9
)
CLIPS = PropagationTraining(steps=3, batch_size=2, num_frames=3, warmup_steps=1, precision="fp32")

SECONDS = {"pspnet101", "pspnet18up", "pspnet18", "pspnet18etc"}  # what a step of each takes
FAMILIES = [pytest.param(name, marks=pytest.mark.slow if name in SECONDS else ()) for name in KEYFRAME_NETWORKS]


class Tiny(nn.Module):
    """A network without batch norm, and with frozen parameters that take no part."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 3, 1)
        self.unused = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, pixels):
        return self.last(self.first(pixels).relu())


def train_stills(folder: Path, config: KeyframeTraining = STILLS) -> dict:
    """Trained weights, from stills without ignored pixels."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, (8, 3, 4), dtype=np.uint8))
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = (torch.eye(3)[labels.long()] * 200).to(torch.uint8).permute(0, 3, 1, 2)
    torch.manual_seed(0)
    normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    stills = Stills(images=images, labels=labels)
    return train_keyframe(
        Tiny(), stills, num_classes=3, normalise=normalise, config=config, folder=folder, held_out=stills
    ).state_dict()


def train_clips(folder: Path) -> dict:
    bars = (torch.arange(28) // 4 % 3).to(torch.uint8)
    targets = torch.stack([bars[i : i + 16].expand(12, 16) for i in range(12)])
    frames = torch.eye(3)[targets.long()].permute(0, 3, 1, 2)
    video = VideoClips((frames * 200).to(torch.uint8), (frames * 5).half(), targets)
    torch.manual_seed(0)
    propagation = train_propagation(
        Propagation(num_classes=3),
        [(video, 1.0)],
        normalise=Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        class_weights=torch.ones(3),
        config=CLIPS,
        folder=folder,
        log_every=1,
    )
    return propagation.state_dict()


def work(rank: int, port: int, folder: Path) -> None:
    """One of two processes, as torchrun would start it."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2, "RANK": rank}.items():
            patch.setenv(name, str(value))
        with parallel.join_processes("cpu") as device:
            assert device == "cpu"
            torch.save(train_stills(folder / "stills"), folder / f"stills{rank}.pt")
            torch.save(train_clips(folder / "clips"), folder / f"clips{rank}.pt")
            with pytest.raises(ConfigError, match="batch size 3 cannot be divided equally among 2 processes"):
                parallel.check_batch_size(3)


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """Folder of both trainings by two processes."""
    folder = tmp_path_factory.mktemp("together")
    torch.multiprocessing.spawn(work, (*free_ports(1), folder), nprocs=2)
    return folder


def log_of(folder: Path) -> list[dict]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


@pytest.mark.slow
def test_two_processes_end_with_equal_weights(together):
    for name in ("stills", "clips"):
        first, second = (torch.load(together / f"{name}{rank}.pt", weights_only=True) for rank in (0, 1))
        for key, tensor in first.items():
            statistics = "running" in key  # each process's own; the first one's are kept
            assert statistics or torch.equal(tensor, second[key]), key


@pytest.mark.slow
def test_two_processes_train_what_one_trains(together, tmp_path):
    """Without batch norm, and where all labelled pixels weigh the same, up to the order of a sum."""
    alone, first = train_stills(tmp_path), torch.load(together / "stills0.pt", weights_only=True)
    for key, tensor in alone.items():
        torch.testing.assert_close(first[key], tensor, rtol=1e-4, atol=1e-5)
    for one, two in zip(log_of(tmp_path), log_of(together / "stills"), strict=True):
        assert one == pytest.approx(two, rel=1e-3)


@pytest.mark.slow
def test_the_first_process_alone_writes_the_log(together):
    assert [record["step"] for record in log_of(together / "clips")] == [1, 2, 3]
    assert [record["epoch"] for record in log_of(together / "stills")] == [1, 2, 3]


@pytest.mark.slow
def test_a_run_of_two_processes_can_be_read_by_one(together):
    first = torch.load(together / "stills0.pt", weights_only=True)
    again = train_stills(together / "stills")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_alone_nothing_is_shared():
    net = nn.Conv2d(1, 1, 1)
    assert parallel.share_gradients(net) is net
    assert parallel.average(2.5, "cpu") == 2.5
    assert (parallel.rank(), parallel.is_first()) == (0, True)
    assert range(4)[parallel.own_share()] == range(4)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_process_waits_for_a_parameter_that_takes_no_part(family):
    net = add_auxiliary_heads(KEYFRAME_NETWORKS[family](num_classes=3), num_classes=3).train()
    loss_of = StillLoss(net, torch.ones(3), distillation=1.0, bf16=False)
    loss_of(torch.rand(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))).backward()
    assert _idle_parameters(net) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BiSeNetV1, PSPNet18])
@pytest.mark.parametrize("every_frame", [False, True])
def test_no_process_of_tdnet_waits_for_a_parameter_that_takes_no_part(kind, every_frame, normalise):
    image = PerFrame(kind(num_classes=11), classes=CAMVID, normalise=normalise)
    model = start_tdnet(image, num_sub_networks=4, size=(64, 96)).train()
    loss_of = TdnetLoss(model, build_auxiliary_heads(model), torch.ones(11), every_frame=every_frame, bf16=False)
    runs = RunBatch(images=torch.zeros(4, 4, 3, 64, 96).byte(), targets=torch.zeros(4, 4, 64, 96).byte())
    loss_of(runs).sum().backward()
    assert _idle_parameters(loss_of) == []


def _idle_parameters(module: nn.Module) -> list[str]:
    """Names of parameters that ask for a gradient and got none."""
    return [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
