from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.models import prepared
from gsvnet.models.checkpoints import load_model
from gsvnet.models.noise import draw_chunks
from gsvnet.models.prepared import autocast_to, prepare_for_inference
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import ChunkBatch, Normalise, PerFrame, SizeRule
from gsvnet.models.spec import TRUNKS, build_model
from gsvnet.models.sub_network import SubNetwork
from gsvnet.nn.folding import fold_batch_norms
from tests.tiny_tdnet import build_tdnet


class Declared(nn.Module):
    """A convolution and a batch norm, declared one after the other; `used` says whether they also run so."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 11, 1)
        self.norm = nn.BatchNorm2d(11)
        self.used = used
        self.norm.running_mean.fill_(0.3)
        nn.init.constant_(self.norm.weight, 2.0)

    def forward(self, x):
        return self.norm(self.conv(x)) if self.used else self.conv(x) + self.norm(x.new_ones(1, 11, 1, 1))


class TakesMultiplesOf(nn.Module):
    """A network with a batch norm that refuses sizes which are no multiple of `step`."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.unit = step, nn.Sequential(nn.Conv2d(3, 11, 1), nn.BatchNorm2d(11))

    def forward(self, x):
        x = self.unit(x)
        return x + F.interpolate(F.max_pool2d(x, self.step), scale_factor=float(self.step))


def per_frame(network: nn.Module) -> PerFrame:
    return PerFrame(network, classes=CAMVID, normalise=Normalise(mean=(0, 0, 0), std=(1, 1, 1)))


def chunk(model, size=(96, 128), length=3) -> ChunkBatch:
    needs, generator = model.needs(*size), torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)

    return ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([length]),
        keyframes=draw(1, 3, *needs.keyframe_size),
        frames=draw(1, length, 3, *(needs.frame_size or needs.keyframe_size)),
        valid=torch.ones(1, length, dtype=torch.bool),
    )


def logits(model, precision="fp32", **options):
    with torch.inference_mode(), autocast_to("cpu", precision):
        return [output.logits.float() for output in model.segment(chunk(model, **options))]


def test_the_default_network_says_the_same_when_prepared():
    model = load_model("default").eval()
    ready = prepare_for_inference(model, device="cpu", precision="fp32")
    for a, b in zip(logits(model), logits(ready), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
        assert (a.argmax(1) == b.argmax(1)).float().mean() > 0.9999


def test_bf16_changes_few_labels():
    ready = prepare_for_inference(load_model("default"), device="cpu", precision="bf16")
    for a, b in zip(logits(ready), logits(ready, "bf16"), strict=True):
        assert (a.argmax(1) == b.argmax(1)).float().mean() > 0.97  # noise: real frames agree far better


@pytest.mark.parametrize("used", [True, False])
def test_batch_norms_are_folded_only_where_that_is_right(used):
    model = per_frame(Declared(used))
    ready = prepare_for_inference(model, device="cpu", precision="fp32")
    assert isinstance(ready.net.norm, nn.Identity) == used
    torch.testing.assert_close(torch.cat(logits(model.eval())), torch.cat(logits(ready)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 0.75, 0.5])
def test_networks_that_take_multiples_of_32_are_folded(scale):
    model = per_frame(TakesMultiplesOf(32))
    model.size_rule = SizeRule(keyframe_scale=scale)
    assert isinstance(prepare_for_inference(model, device="cpu", precision="fp32").net.unit[1], nn.Identity)


def test_a_network_that_refuses_the_sample_is_prepared_without_folding():
    ready = prepare_for_inference(per_frame(TakesMultiplesOf(40)), device="cpu", precision="fp32")
    assert isinstance(ready.net.unit[1], nn.BatchNorm2d)
    assert len(logits(ready, size=(80, 120))) == 3


def test_convolutions_over_time_are_left_as_they_are():
    class OverTime(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.over_time, self.classify = nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 1, 1)), nn.Conv2d(4, 11, 3)

        def forward(self, x):
            return self.classify(self.over_time(x[:, :, None])[:, :, 0])

    model = per_frame(OverTime().eval())
    ready = prepare_for_inference(model, device="cpu", precision="fp32")
    assert ready.net.classify.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(torch.cat(logits(model)), torch.cat(logits(ready)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["arseg-bisenetv1", pytest.param("arseg-pspnet18up", marks=pytest.mark.slow)])
def test_altered_resolution_says_the_same_when_prepared(family):
    torch.manual_seed(0)
    model = build_model(replace(PUBLISHED[family], size_rule=SizeRule(), resize="area")).eval()
    ready = prepare_for_inference(model, device="cpu", precision="fp32")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in ready.modules())
    noise = draw_chunks(model, height=64, width=96, num_chunks=2, interval=2, device="cpu")
    with torch.inference_mode():
        plain, fast = ([*m.segment(noise)] for m in (model, ready))
    assert [len(out.chunk) for out in fast] == [1, 1, 1, 1]
    for a, b in zip(torch.cat([out.logits for out in plain]), torch.cat([out.logits for out in fast]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * a.abs().max().item())


def test_distributed_networks_say_the_same_when_prepared():
    model = build_tdnet("both", "keyframes")
    model.size_rule = SizeRule(rows=24)
    torch.manual_seed(0)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    ready = prepare_for_inference(model, device="cpu", precision="fp32")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in ready.modules())
    for a, b in zip(label_noise(model), label_noise(ready), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * a.abs().max().item())
    in_bf16 = label_noise(ready, "bf16")
    assert {logits.dtype for logits in in_bf16} == {torch.float32}  # of keyframes and of the others alike
    assert (torch.stack(label_noise(ready)).argmax(1) == torch.stack(in_bf16).argmax(1)).float().mean() > 0.95


def label_noise(model, precision="fp32") -> list[torch.Tensor]:
    """Logits (C, h, w) of the frames of two chunks of noise, in display order."""
    noise = draw_chunks(model, height=24, width=32, num_chunks=2, interval=3, device="cpu")
    with torch.inference_mode(), autocast_to("cpu", precision):
        found = {
            (c, p): logits
            for output in model.segment(noise)
            for c, p, logits in zip(output.chunk.tolist(), output.position.tolist(), output.logits)
        }
    return [found[place] for place in sorted(found)]


@pytest.mark.parametrize("trunk", TRUNKS)
def test_no_batch_norm_of_a_sub_network_is_left_when_folded(trunk):
    with torch.device("meta"):
        part = SubNetwork(TRUNKS[trunk](turn=0), num_classes=3, num_sub_networks=2, map_size=(1, 1))
        folded = fold_batch_norms(part)
    assert any(isinstance(module, nn.BatchNorm2d) for module in part.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_on_a_cpu_one_image_runs_at_a_time():
    ready = prepare_for_inference(per_frame(Declared(True)), device="cpu", precision="fp32")
    assert [len(out) for out in logits(ready)] == [1, 1, 1]


def test_the_model_itself_stays_as_it_is():
    model = per_frame(Declared(True)).train()
    prepare_for_inference(model, device="cpu", precision="fp32")
    assert model.training
    assert isinstance(model.net.norm, nn.BatchNorm2d)


def test_compiling_without_a_compiler_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(prepared.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="g\\+\\+"):
        prepare_for_inference(per_frame(Declared(True)), device="cpu", precision="fp32", compiled=True)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_normalising_does_not_depend_on_the_layout(channels):
    normalise = Normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels=channels)
    pixels = torch.randint(256, (2, 2, 5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    channels_last = pixels.movedim(-1, -3)
    expected = (channels_last.double() / 255 - normalise.mean.double()) / normalise.std.double()
    expected = expected.flip(-3) if channels == "bgr" else expected
    for x in (channels_last, channels_last.contiguous(), channels_last.float()):
        torch.testing.assert_close(normalise(x).double(), expected, rtol=0, atol=1e-6)


def test_every_output_is_computed_in_its_precision_and_no_consumer_is():
    """The second output too: leaving inference mode once switched autocast off."""
    layer = nn.Conv2d(1, 1, 1)

    def outputs():
        for _ in range(3):
            assert torch.is_inference_mode_enabled()
            yield layer(torch.ones(1, 1, 2, 2)).dtype

    seen = []
    for dtype in prepared.compute_in("cpu", "bf16", outputs()):
        assert layer(torch.ones(1, 1, 2, 2)).dtype == torch.float32
        assert not torch.is_inference_mode_enabled()
        seen.append(dtype)
    assert seen == [torch.bfloat16] * 3
