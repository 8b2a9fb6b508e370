from __future__ import annotations

import pytest
import torch

from gsvnet.labeling.precision import advise_precision, cpu_has_bf16, resolve_precision


def pretend(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)


def test_auto_is_fp32_on_a_cpu_and_bf16_on_cuda():
    assert [resolve_precision("auto", device) for device in ("cpu", "cuda")] == ["fp32", "bf16"]
    assert resolve_precision("bf16", "cpu") == "bf16"
    assert resolve_precision("fp32", "cuda") == "fp32"


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_processor_with_bf16_is_recommended_to_who_left_it_open(monkeypatch, name):
    pretend(monkeypatch, avx2=True, **{name: True})
    [text] = advise_precision("auto", "cpu")
    assert "--precision bf16 is faster here" in text
    assert advise_precision("bf16", "cpu") == advise_precision("fp32", "cpu") == ()


def test_bf16_on_a_processor_without_it_is_warned_of_and_not_refused(monkeypatch):
    pretend(monkeypatch, avx2=True, avx512_bf16=False)
    [text] = advise_precision("bf16", "cpu")
    assert "--precision fp32 is faster here" in text
    assert advise_precision("auto", "cpu") == ()


def test_a_gpu_needs_no_advice(monkeypatch):
    pretend(monkeypatch, avx512_bf16=True)
    assert advise_precision("auto", "cuda") == advise_precision("bf16", "cuda") == ()


def test_a_torch_that_cannot_say_keeps_quiet(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert cpu_has_bf16() is None
    assert advise_precision("bf16", "cpu") == advise_precision("auto", "cpu") == ()
