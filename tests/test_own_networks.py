"""Networks of one's own that break what a network has to keep to: nothing wrong is written, and the words say why."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def own_network(tmp_path, monkeypatch):
    """own_network(code) -> --model of a network whose logits of images x are `code`; logits: what a sound one gives."""

    def write(code):
        module = f"own_network_of_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(
            "import torch\n"
            "from gsvnet import CAMVID, PerFrame\n"
            "from gsvnet.models.segmenter import Normalise\n"
            "class Network(torch.nn.Conv2d):\n"
            "    def forward(self, x):\n"
            "        logits = super().forward(x)\n"
            f"        return {code}\n"
            "def make():\n"
            "    normalise = Normalise(mean=(0.5,) * 3, std=(0.5,) * 3)\n"
            "    return PerFrame(Network(3, 11, 1), classes=CAMVID, normalise=normalise)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return f"{module}:make"

    return write


def test_a_network_whose_output_is_no_number_labels_nothing(gsvnet_label, good, own_network):
    only_of_noise = "logits if x.shape[-1] == 512 else logits * torch.nan"
    code, printed, said = gsvnet_label(good, model=own_network(only_of_noise))
    assert code == 3
    assert "frame 0: the network's output holds NaN or infinity" in printed + said
    assert not list(Path("out/labels").rglob("*.parquet"))


def test_a_network_that_gives_probabilities_is_refused_before_the_output_is_claimed(gsvnet_label, good, own_network):
    code, _, said = gsvnet_label(good, model=own_network("logits.softmax(dim=1)"))
    assert code == 2
    assert said.startswith("gsvnet: Network gives probabilities")
    assert not Path("out").exists()


def test_two_sides_of_a_network_without_any_are_refused_by_the_flag_that_asked(gsvnet_label, good, own_network):
    model = own_network("logits")
    code, _, said = gsvnet_label(good, "--propagation", "two-sided", model=model)
    assert (code, said) == (2, f"gsvnet: --propagation two-sided: {model} labels every frame by itself\n")


def test_a_network_that_skips_a_frame_ends_the_job(gsvnet_label, good, own_network):
    code, _, said = gsvnet_label(good, model=own_network("logits if x.shape[-1] == 512 else logits[:0]"))
    assert code == 2
    assert said.startswith("gsvnet: Network gave logits of 0 images for ")
