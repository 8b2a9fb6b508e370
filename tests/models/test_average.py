"""The mean of networks that were fine-tuned from the same start."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsvnet.cli import main
from gsvnet.errors import ModelError
from gsvnet.models.average import average_checkpoints
from gsvnet.models.checkpoints import load_checkpoint, read_notes, save_checkpoint
from gsvnet.models.transfer import image_network_of
from tests.material import save_tiny_model


@pytest.fixture
def tiny(tmp_path):
    """Checkpoint of a tiny GSVNet."""
    return save_tiny_model(tmp_path / "tiny.safetensors")


def moved(source, target, *, by, image=False):
    """A copy of a checkpoint whose floating-point weights are larger by `by`; image: of its image network."""
    model = load_checkpoint(source)
    if image:
        model = image_network_of(model)
        model.size_rule = replace(model.size_rule, strides=(3,))  # of a grid that an image network has no use for
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor += by
    save_checkpoint(target, model, half=False)
    return target


def test_the_mean_lies_between(tiny, tmp_path):
    first, second = (moved(tiny, tmp_path / f"{by}.safetensors", by=by) for by in (0.0, 1.0))
    average_checkpoints([first, second, second, second], tmp_path / "mean.safetensors")
    start, mean = (load_checkpoint(path).state_dict() for path in (first, tmp_path / "mean.safetensors"))
    floats = [name for name, tensor in start.items() if tensor.is_floating_point()]
    assert len(floats) > 10
    for name in floats:
        torch.testing.assert_close(mean[name], start[name] + 0.75, atol=2e-3, rtol=1e-3)  # float16 on disk


def test_of_a_gsvnet_and_an_image_network_the_image_networks_are_averaged(tiny, tmp_path):
    image = moved(tiny, tmp_path / "image.safetensors", by=1.0, image=True)
    assert main(["average", str(tiny), str(image), "--out", str(tmp_path / "mean.safetensors")]) == 0
    mean = load_checkpoint(tmp_path / "mean.safetensors")
    start = image_network_of(load_checkpoint(tiny)).net.state_dict()
    name, weight = next((name, tensor) for name, tensor in start.items() if tensor.is_floating_point())
    torch.testing.assert_close(mean.net.state_dict()[name], weight + 0.5, atol=2e-3, rtol=1e-3)
    _, notes = read_notes(tmp_path / "mean.safetensors")
    assert [part["file"] for part in notes["average_of"]] == ["tiny.safetensors", "image.safetensors"]


def test_networks_that_read_other_sizes_are_refused(tiny, tmp_path):
    model = load_checkpoint(tiny)
    model.size_rule = replace(model.size_rule, rows=60)
    save_checkpoint(tmp_path / "other.safetensors", model)
    with pytest.raises(ModelError, match=r"other.safetensors is no relative of .*tiny.safetensors"):
        average_checkpoints([tiny, tmp_path / "other.safetensors"], tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


def test_a_source_is_not_overwritten(tiny, tmp_path, monkeypatch):
    path = tmp_path / "own.safetensors"
    path.write_bytes(Path(tiny).read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="is one of the checkpoints to average"):
        average_checkpoints([tiny, "own.safetensors"], path)
    assert path.read_bytes() == Path(tiny).read_bytes()


def test_one_file_has_no_mean(tiny, tmp_path):
    with pytest.raises(ModelError, match="name two or more"):
        average_checkpoints([tiny], tmp_path / "mean.safetensors")
