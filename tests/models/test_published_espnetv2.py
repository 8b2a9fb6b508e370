from __future__ import annotations

import numpy as np
import pytest
import torch

from gsvnet.classes import CITYSCAPES
from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import load_checkpoint, read_notes
from gsvnet.models.espnetv2 import ESPNetv2
from gsvnet.models.published import PUBLISHED, convert_published
from gsvnet.models.published_espnetv2 import load_published_espnetv2, published_espnetv2_name
from gsvnet.models.segmenter import Normalise
from gsvnet.nn.blocks import resize

VOID = 19


def published(tmp_path, **changes):
    """A file as its authors write it, with random weights of width 0.5 and the void class."""
    state = ESPNetv2(num_classes=20, width=0.5).state_dict()
    weights = {published_espnetv2_name(name): tensor for name, tensor in state.items()} | changes
    torch.save({name: tensor for name, tensor in weights.items() if tensor is not None}, tmp_path / "e.pth")
    return tmp_path / "e.pth", weights


def test_void_is_dropped_and_the_width_is_read_off_the_tensors(tmp_path):
    path, weights = published(tmp_path)
    network = load_published_espnetv2(path)
    assert network.options == {"width": 0.5, "projection": 10}
    assert torch.equal(network.decode[3].merge.bias, weights["bu_dec_l4.merge_layer.3.bias"][:VOID])
    assert torch.equal(network.blend[2].act.weight, weights["bu_br_l4.1.weight"])
    assert not network.training


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bu_br_l2.1.weight": None}, r"missing bu_br_l2\.1\.weight"),
        ({"extra": torch.zeros(1)}, "unexpected extra"),
        ({"base_net.level4_0.act.weight": None}, r"no ESPNetv2 for segmentation: missing base_net\.level4_0"),
        ({"base_net.level4_0.act.weight": torch.zeros(100)}, r"100 channels.*\[128, 256, 384, 512\]"),
        (
            {"bu_dec_l4.merge_layer.3.bias": torch.zeros(12)},
            r"merge_layer\.3\.bias is \(12,\), the network has \(19,\)",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(changes, words, tmp_path):
    with pytest.raises(ModelError, match=words):
        load_published_espnetv2(published(tmp_path, **changes)[0])


def test_an_image_network_is_converted_without_a_propagation(tmp_path):
    path, _ = published(tmp_path)
    convert_published("espnetv2", path, None, tmp_path / "m.safetensors")
    spec, notes = read_notes(tmp_path / "m.safetensors")
    assert (spec.family, spec.classes, spec.network["width"]) == ("espnetv2", CITYSCAPES, 0.5)
    assert notes == {"converted_from": ["e.pth"]}
    assert load_checkpoint(tmp_path / "m.safetensors").needs(1024, 2048).keyframe_size == (512, 1024)


def test_a_propagation_is_asked_for_where_the_family_has_one_and_nowhere_else(tmp_path):
    path, _ = published(tmp_path)
    with pytest.raises(ModelError, match="'espnetv2' has no propagation"):
        convert_published("espnetv2", path, path, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="'gsvnet-bisenet' needs --propagation"):
        convert_published("gsvnet-bisenet", path, None, tmp_path / "m.safetensors")


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
@torch.no_grad()
def test_published_weights_give_the_authors_logits_and_labels(width, data_dir):
    image = pytest.importorskip("PIL.Image")
    name, folder = f"espnetv2_s_{width}_city_1024x512", data_dir / "weights"
    picture = np.array(image.open(folder / "golden" / "input_frankfurt_000001_047552_1024x512.webp").convert("RGB"))
    golden = np.load(folder / "golden" / f"{name}_logits_stride32.npz")["logits"]
    labels = np.array(image.open(folder / "golden" / f"{name}_argmax.png"))

    normalise = PUBLISHED["espnetv2"].normalise
    images = Normalise(mean=normalise.mean, std=normalise.std)(torch.from_numpy(picture).movedim(-1, 0)[None])
    logits = resize(load_published_espnetv2(folder / f"{name}.pth")(images), picture.shape[:2])[0].numpy()

    assert np.abs(logits[:, ::32, ::32] - golden[:VOID]).max() < 2e-5
    assert (logits.argmax(0) != labels)[labels != VOID].sum() == 0
