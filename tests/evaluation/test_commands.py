"""`gsvnet evaluate` from arguments to tables and JSON, on CamVid and Cityscapes in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.cli import main
from gsvnet.errors import ConfigError
from gsvnet.evaluation.config import EvaluateCamvidConfig, EvaluateCostConfig, MoreFigures, RunOptions
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch


class ReadsRed(torch.nn.Module):
    """Labels every frame with what its red channel says, 10 levels per class."""

    def __init__(self, classes) -> None:
        super().__init__()
        self.classes = classes

    def needs(self, height, width):
        return FrameNeeds(keyframe_size=(height, width))

    def segment(self, chunks):
        chunk, position = chunks.valid.nonzero(as_tuple=True)
        ids = (chunks.frames[chunk, position][:, 0].long() // 10).clamp(max=len(self.classes) - 1)
        logits = torch.nn.functional.one_hot(ids, len(self.classes)).movedim(-1, 1).float() * 9
        yield LogitsBatch(chunk=chunk, position=position, logits=logits)


@pytest.fixture
def camvid(tmp_path, write_camvid) -> Path:
    truths = np.random.default_rng(0).integers(0, 12, (4, 48, 64))
    return write_camvid(tmp_path / "camvid", truths)


@pytest.fixture
def cityscapes(tmp_path) -> Path:
    """Three frames of random train ids, the last one labelled."""
    root, rng = tmp_path / "cityscapes" / "val", np.random.default_rng(0)
    root.mkdir(parents=True)
    for number in range(3):
        ids = rng.integers(0, 19, (16, 24)).astype(np.uint8)
        image = np.repeat(ids[..., None] * 10, 3, axis=2)
        Image.fromarray(image).save(root / f"ulm_000000_{number:06d}_leftImg8bit.png")
    Image.fromarray(ids).save(root / "ulm_000000_000002_gtFine_labelTrainIds.png")
    return root.parent


@pytest.fixture
def model_is(monkeypatch):
    def use(model):
        monkeypatch.setattr("gsvnet.evaluation.commands.load_model", lambda name: model.eval())

    return use


def _evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def test_camvid_writes_what_it_prints(camvid, tiny_model, tmp_path, capsys):
    out = tmp_path / "result.json"
    assert _evaluate("camvid", "--root", camvid, "--split", "val", "--model", tiny_model, "--json", out,
                     "--keyframe-interval", 3, "--device", "cpu") == 0  # fmt: skip
    result = json.loads(out.read_text())
    assert set(result) >= {
        "dataset", "split", "model", "device", "num_frames", "keyframe_interval", "avg_miou", "avg_miou_pooled",
        "min_miou", "drop", "per_distance", "per_frame", "per_class", "absent_classes", "notes", "hold",
    }  # fmt: skip
    assert (result["dataset"], result["split"], result["device"], result["num_frames"]) == ("camvid", "val", "cpu", 2)
    assert result["model"] == str(tiny_model)
    assert "scale" not in result
    printed = capsys.readouterr().out
    assert all(f"{value:.1f}" in printed for value in result["per_distance"])
    assert f"drop {result['drop']:.1f}" in printed


def test_cityscapes_scores_the_labelled_frame(cityscapes, model_is, tmp_path):
    model_is(ReadsRed(CITYSCAPES))
    out = tmp_path / "result.json"
    assert _evaluate("cityscapes", "--root", cityscapes, "--keyframe-interval", 3, "--json", out) == 0
    result = json.loads(out.read_text())
    assert (result["num_frames"], result["per_distance"], result["step_ms"]) == (1, [100.0] * 3, 58.824)
    assert result["hold"]["per_distance"][1] < 20


def test_a_model_of_cityscapes_is_scored_on_camvid_with_merged_classes(camvid, model_is, tmp_path):
    class Reads(ReadsRed):
        """The red channel counts CamVid's classes, 20 levels each; the answer is one Cityscapes class of each."""

        def segment(self, chunks):
            names = ("sky", "wall", "pole", "road", "sidewalk", "terrain", "traffic light", "fence", "bus", "person")
            ids = torch.tensor([CITYSCAPES.names.index(name) for name in (*names, "rider", "sky")])
            red = ids[chunks.frames[:, :, 0].long() // 20] * 10
            chunks.frames[:, :, 0] = red.to(torch.uint8)
            yield from super().segment(chunks)

    model_is(Reads(CITYSCAPES))
    out = tmp_path / "result.json"
    assert _evaluate("camvid", "--root", camvid, "--split", "val", "--keyframe-interval", 1, "--json", out) == 0
    result = json.loads(out.read_text())
    assert result["per_frame"] == 100.0
    assert set(result["per_class"]) == set(CAMVID.identifiers)
    assert "19 cityscapes classes were merged into 11 of camvid" in result["notes"][-1]


def test_a_model_of_camvid_is_refused_on_cityscapes(cityscapes, tiny_model, capsys):
    assert _evaluate("cityscapes", "--root", cityscapes, "--model", tiny_model, "--keyframe-interval", 1) == 2
    assert "the truth has road, sidewalk" in capsys.readouterr().err


def test_scale_changes_the_keyframe_and_is_written_down(camvid, tiny_model, tmp_path, capsys):
    out = tmp_path / "result.json"
    assert (
        _evaluate("cost", "--size", "48x64", "--model", tiny_model, "--scale", 0.5, "--seconds", 0, "--json", out) == 0
    )
    result = json.loads(out.read_text())
    assert (result["scale"], result["cost"]["keyframe_size"], result["cost"]["size"]) == (0.5, [24, 32], [48, 64])
    assert "keyframes read at 32x24" in capsys.readouterr().out
    assert (
        _evaluate(
            "camvid", "--root", camvid, "--split", "val", "--keyframe-interval", 2, "--model", tiny_model, "--scale", 3
        )
        == 2
    )
    assert "keyframe scale 3.0" in capsys.readouterr().err


def test_cost_counts_and_times(tiny_model, tmp_path, capsys):
    out = tmp_path / "cost.json"
    assert _evaluate("cost", "--size", "48x64", "--model", tiny_model, "--keyframe-interval", 2, "--seconds", 0.01,
                     "--batch-chunks", 1, "--device", "cpu", "--json", out) == 0  # fmt: skip
    result = json.loads(out.read_text())
    assert set(result) == {"model", "device", "precision", "cost", "frames_per_s", "speed"}
    assert result["cost"]["average_macs"] == (result["cost"]["keyframe_macs"] + result["cost"]["frame_macs"]) / 2
    assert result["frames_per_s"] > 0
    assert "frames/s at L=2" in capsys.readouterr().out


def test_consistency_compares_the_model_with_per_frame_labels_and_truth(camvid, model_is, tmp_path, capsys):
    pytest.importorskip("cv2")
    model_is(ReadsRed(CAMVID))
    out = tmp_path / "result.json"
    assert _evaluate("camvid", "--root", camvid, "--split", "val", "--keyframe-interval", 2, "--consistency",
                     "--json", out) == 0  # fmt: skip
    consistency = json.loads(out.read_text())["consistency"]
    assert {"mode", "flow", "note", "keyframe_interval", "clips", "model", "per_frame", "truth"} == set(consistency)
    assert consistency["model"] == consistency["per_frame"]  # it labels every frame by itself
    assert consistency["truth"]["num_pairs"] == 3
    assert "keyframe every 2 frames" in capsys.readouterr().out


def test_consistency_of_stills_is_refused_before_anything_runs(tmp_path, write_camvid, model_is, capsys):
    root = write_camvid(tmp_path / "far", np.zeros((2, 16, 16), int), split="test", step=30)
    model_is(ReadsRed(CAMVID))
    assert _evaluate("camvid", "--root", root, "--consistency") == 2
    assert "--consistency: the images of camvid test do not follow" in capsys.readouterr().err


def test_consistency_of_single_images_is_refused_before_anything_runs(cityscapes, model_is, capsys):
    for number in (0, 1):
        (cityscapes / "val" / f"ulm_000000_{number:06d}_leftImg8bit.png").unlink()
    model_is(ReadsRed(CITYSCAPES))
    assert _evaluate("cityscapes", "--root", cityscapes, "--keyframe-interval", 1, "--consistency") == 2
    said = capsys.readouterr()
    assert "--consistency: the images of cityscapes val do not follow" in said.err
    assert "mIoU" not in said.out


def test_cost_beside_a_score_is_at_the_interval_that_was_scored(tmp_path, write_camvid, tiny_model, monkeypatch):
    monkeypatch.setattr("gsvnet.evaluation.commands._SECONDS", 0.01)
    root, out = write_camvid(tmp_path / "far", np.zeros((2, 48, 64), int), split="test", step=30), tmp_path / "a.json"
    assert _evaluate("camvid", "--root", root, "--model", tiny_model, "--device", "cpu", "--cost", "--json", out) == 0
    result = json.loads(out.read_text())
    assert (
        result["keyframe_interval"] == result["cost"]["keyframe_interval"] == result["speed"]["keyframe_interval"] == 1
    )


def test_plots_of_one_result_and_of_several(camvid, model_is, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    model_is(ReadsRed(CAMVID))
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for interval, out in enumerate(files, start=1):
        assert _evaluate("camvid", "--root", camvid, "--split", "val", "--keyframe-interval", interval,
                         "--json", out, "--plots", tmp_path / "one") == 0  # fmt: skip
    assert (tmp_path / "one" / "classes.png").is_file()
    assert _evaluate("plot", *files, "--out", tmp_path / "both") == 0
    assert (tmp_path / "both" / "distance.svg").is_file()
    assert "wrote" in capsys.readouterr().out


def test_consistency_of_one_run_and_of_two_is_plotted(camvid, model_is, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("cv2")
    model_is(ReadsRed(CAMVID))
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for out, plots in zip(files, ([], ["--plots", tmp_path / "one"])):
        assert _evaluate("camvid", "--root", camvid, "--split", "val", "--keyframe-interval", 1, "--consistency",
                         "--model", f"model-{out.stem}", "--json", out, *plots) == 0  # fmt: skip
    assert "every frame, TC" in (tmp_path / "one" / "consistency.svg").read_text()
    assert _evaluate("plot", *files, "--out", tmp_path / "both") == 0
    both = (tmp_path / "both" / "consistency.svg").read_text()
    assert all(f">{name}, TC " in both for name in ("model-a, L=1", "model-b, L=1", "truth"))


@pytest.mark.parametrize(
    ("text", "complaint"), [(None, "cannot read"), ("no json", "cannot read"), ("[1]", "holds a JSON list")]
)
def test_a_plot_of_something_else_names_the_file(text, complaint, tmp_path, capsys):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    assert _evaluate("plot", path, "--out", tmp_path) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert "a.json" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keyframe_interval": 0}, "--keyframe-interval 0: at least 1"),
        ({"batch_chunks": 0}, "--batch-chunks 0: at least 1"),
        ({"json": Path("no/such/folder.json")}, "--json no/such/folder.json: there is no folder no/such"),
        ({"json": Path(__file__).parent}, "--json .*: is a folder"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        RunOptions(**options)


def test_plots_into_a_file_are_refused():
    with pytest.raises(ConfigError, match=r"--plots .*test_commands.py: is a file"):
        MoreFigures(plots=Path(__file__))


def test_cost_of_codec_motion_is_refused_before_anything_is_scored(tmp_path):
    run, more = RunOptions(propagation="motion"), MoreFigures(cost=True)
    with pytest.raises(ConfigError, match="--cost: not measured with --propagation motion"):
        EvaluateCamvidConfig(root=tmp_path, motion_video="clip.mp4", run=run, more=more)


@pytest.mark.parametrize(("options", "message"), [({"size": "8"}, "--size 8"), ({"seconds": -1.0}, "--seconds -1.0")])
def test_cost_options_out_of_range_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        EvaluateCostConfig(**options)


def test_cuda_is_refused_where_there_is_none(camvid, tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _evaluate("camvid", "--root", camvid, "--model", tiny_model, "--device", "cuda") == 2
    assert "--device cuda" in capsys.readouterr().err


def test_a_published_family_is_measured_without_its_weights(tmp_path):
    out = tmp_path / "cost.json"
    words = ["evaluate", "cost", "--model", "gsvnet-swiftnet", "--keyframe-interval", "4", "--seconds", "0"]
    assert main([*words, "--size", "1024x2048", "--json", str(out)]) == 0
    cost = json.loads(out.read_text())["cost"]
    assert cost["keyframe_macs"] / 1e9 == pytest.approx(58.26, rel=0.01)
    assert cost["frame_macs"] / 1e9 == pytest.approx(2.70, rel=0.01)
