from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.evaluation.drawing import draw_consistency
from gsvnet.evaluation.plots import plot_classes, plot_consistency, plot_distances, plot_throughput, write_plots
from gsvnet.evaluation.plotted import PlottedRow, read_results


def result(model: str = "default", interval: int = 3, **changes) -> dict:
    """A result as `gsvnet evaluate --json` writes it."""
    usual = {
        "dataset": "camvid",
        "split": "val",
        "model": model,
        "device": "cpu",
        "keyframe_interval": interval,
        "avg_miou": 60.0 - interval,
        "per_distance": [60.0 - i for i in range(interval)],
        "per_class": {"road": 91.25, "sign_symbol": 33.5, "fence": None},
        "hold": {"per_distance": [60.0 - 5 * i for i in range(interval)]},
        "frames_per_s": 10.0 * interval,
    }
    return usual | changes


def consistency(*kinds: str, clips: tuple[str, ...] = ("drive",), mode: str = "sound", **pooled: float) -> dict:
    """Temporal consistency as `gsvnet evaluate --json` writes it: of four pairs per clip, one of them not compared.

    pooled: TC of a kind of labels; default: 80. Clips are the less consistent the later they come.
    """
    rows = {}
    for kind in ("model", *kinds):
        tc = pooled.get(kind, 80.0)
        per_clip = [tc - number for number in range(len(clips))]
        rows[kind] = {"miou": tc, "per_clip": per_clip, "per_pair": [[tc, None, tc - 1, tc + 1] for tc in per_clip]}
    return {"mode": mode, "flow": "DIS", "clips": list(clips), **rows}


def texts(svg: Path) -> list[str]:
    return [element.text or "" for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def height_of(svg: Path, text: str) -> float:
    """How far down a text stands, in points."""
    found = re.search(rf'translate\(\S+ (\S+)\)[^>]*>{text}<|y="([\d.]+)"[^>]*>{text}<', svg.read_text())
    assert found, text
    return float(found[1] or found[2])


def test_every_plot_is_written_as_png_and_as_svg(tmp_path):
    results = [result(interval=1), result(interval=3, consistency=consistency("truth"))]
    files = write_plots(results, tmp_path / "new" / "folder")
    names = ("throughput", "distance", "consistency", "classes")
    assert {path.name for path in files} == {f"{name}.{ending}" for name in names for ending in ("png", "svg")}
    for path in files:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    ("results", "names"),
    [
        ([result()], {"distance", "classes"}),
        ([result(interval=1), result("other", 1)], {"throughput", "classes"}),
        ([result(), result("other", frames_per_s=None)], {"distance", "classes"}),
        ([result(consistency={"model": {"miou": 80.0, "per_clip": [80.0]}})], {"distance", "classes"}),
        ([result(consistency=consistency()), result("b", frames_per_s=None)], {"distance", "classes"}),
        (
            [result(consistency=consistency(), frames_per_s=None), result("b", consistency=consistency(mode="etc"))],
            {"distance", "classes"},
        ),
    ],
    ids=["one result", "per frame only", "one not timed", "no TC of pairs", "one without TC", "TC of two modes"],
)
def test_plots_that_the_results_do_not_allow_are_left_out(tmp_path, results, names):
    assert {path.stem for path in write_plots(results, tmp_path)} == names


def test_equal_input_gives_equal_bytes(tmp_path):
    results = [result(model, interval, consistency=consistency()) for model, interval in (("a", 1), ("a", 3), ("b", 3))]
    first, second = (write_plots(results, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_throughput_names_models_intervals_units_and_device(tmp_path):
    _, svg = plot_throughput([result(interval=1), result(interval=5), result("other", 3)], tmp_path)
    assert {"default", "other", "L=1", "L=3", "L=5", "camvid val"} <= set(texts(svg))
    assert {"frames/s (networks alone, cpu)", "mIoU, mean over distances (%)"} <= set(texts(svg))


def test_a_wide_range_of_throughput_is_logarithmic_with_plain_numbers(tmp_path):
    _, svg = plot_throughput([result(frames_per_s=1.5), result("other", frames_per_s=150.0)], tmp_path)
    assert {"2", "5", "10", "20", "50", "100"} <= set(texts(svg))


def test_distances_name_every_curve_and_its_hold(tmp_path):
    _, svg = plot_distances([result(), result("other", hold=None)], tmp_path)
    assert {"default", "hold, default", "other", "distance from the keyframe (frames)", "mIoU (%)"} <= set(texts(svg))
    assert "hold, other" not in texts(svg)


def test_the_time_between_frames_is_said_where_it_is_known(tmp_path):
    _, svg = plot_distances([result(step_ms=66.667)], tmp_path)
    assert "distance from the keyframe (frames of 66.7 ms)" in texts(svg)


def test_of_a_model_with_several_intervals_the_longest_is_drawn_by_distance(tmp_path):
    _, svg = plot_distances([result(interval=7), result(interval=2)], tmp_path)
    assert texts(svg).count("default") == 1
    assert "6" in texts(svg)


def test_names_of_curves_that_end_together_at_the_bottom_are_all_there_and_do_not_touch(tmp_path):
    names = [f"model {i}" for i in range(7)]
    _, svg = plot_distances([result(name, hold=None) for name in names], tmp_path)
    heights = sorted(height_of(svg, name) for name in names)
    assert np.diff(heights).min() >= 10  # the size of the letters


def test_a_distance_without_a_score_is_a_gap(tmp_path):
    _, svg = plot_distances([result(interval=5, per_distance=[60.0, 59.0, None, 57.0, 56.0], hold=None)], tmp_path)
    assert re.search(r'd="M [^M"]*L [^M"]*M [^M"]*L ', svg.read_text())


def test_absent_classes_say_so_and_a_zero_is_a_zero(tmp_path):
    other = result("other", per_class={"road": 0.0, "sign_symbol": 12.0, "fence": None})
    _, svg = plot_classes([result(), other], tmp_path)
    found = Counter(texts(svg))
    assert (found["absent"], found["0.0"]) == (2, 1)
    assert {"91.2", "33.5", "12.0", "sign symbol", "default, L=3", "other, L=3"} <= found.keys()


def test_classes_stand_in_the_order_of_their_iou_absent_ones_last(tmp_path):
    _, svg = plot_classes([result(per_class={"fence": None, "pole": 0.0, "road": 90.0, "car": 80.0})], tmp_path)
    heights = [height_of(svg, name) for name in ("road", "car", "pole", "fence")]
    assert heights == sorted(heights)


def test_consistency_of_one_model_has_a_curve_per_kind_of_labels(tmp_path):
    figures = consistency("smoothed", "per_frame", "truth", model=81.25, smoothed=88.0, per_frame=70.5, truth=90.0)
    _, svg = plot_consistency([result(interval=1), result(interval=5, step_ms=50.0, consistency=figures)], tmp_path)
    kinds = {"keyframe every 5 frames, TC 81.2", "smoothed, TC 88.0", "per frame, TC 70.5", "truth, TC 90.0"}
    assert kinds <= set(texts(svg))
    assert {"camvid val: default", "drive", "TC of each pair (%)"} <= set(texts(svg))


def test_a_network_without_keyframes_has_one_curve(tmp_path):
    _, svg = plot_consistency([result(consistency=consistency("per_frame"))], tmp_path)
    assert "drive: every frame, TC 80.0" in texts(svg)


def test_consistency_of_two_models_has_a_curve_of_each_and_one_of_the_truth(tmp_path):
    figures = [consistency("per_frame", "truth", model=tc) for tc in (75.0, 85.0)]
    _, svg = plot_consistency(
        [result("without", consistency=figures[0]), result("with", consistency=figures[1])], tmp_path
    )
    found = [text for text in texts(svg) if ", TC " in text]
    assert found == ["without, L=3, TC 75.0", "with, L=3, TC 85.0", "truth, TC 80.0"]


def test_of_many_clips_those_of_the_lowest_consistency_have_a_panel(tmp_path, monkeypatch):
    monkeypatch.setattr("gsvnet.evaluation.plots._MOST_CLIPS", 2)
    clips = ("street 0", "street 1", "street 2")
    _, svg = plot_consistency([result(consistency=consistency("truth", clips=clips))], tmp_path)
    assert [text for text in texts(svg) if text.startswith("street")] == list(clips[1:])
    assert "camvid val: default, the 2 of 3 clips whose TC is lowest" in texts(svg)


@pytest.mark.parametrize(
    ("step_ms", "times", "label"),
    [
        (50.0, [0.05, 0.1, 0.15], "time of a pair's later frame (s)"),
        (None, [1, 2, 3], "pair of neighbouring frames"),
    ],
)
def test_pairs_stand_at_their_time_or_number_with_a_gap_where_nothing_was_compared(step_ms, times, label):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    row = PlottedRow(pooled=80.0, per_clip=(None, 80.0), per_pair=((None,) * 9, (90.0, None, 70.0)))
    draw_consistency(figure, {"model": row}, {1: "drive"}, "camvid val", step_ms)
    [axes] = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), times)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [90, np.nan, 70])
    assert axes.get_xlabel() == label


def test_as_many_models_as_there_are_colours_leave_one_to_the_truth():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    row = PlottedRow(pooled=80.0, per_clip=(80.0,), per_pair=((80.0,),))
    draw_consistency(figure, dict.fromkeys([*"abcdefg", "truth"], row), {0: "drive"}, "camvid val", None)
    assert len({line.get_color() for line in figure.axes[0].lines}) == 8


def test_consistency_ends_at_100_percent():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    row = PlottedRow(pooled=100.0, per_clip=(100.0,), per_pair=((100.0,) * 3,))
    draw_consistency(figure, {"model": row}, {0: "drive"}, "camvid val", None)
    assert 100 < figure.axes[0].get_ylim()[1] < 101


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({}, "other at interval 3 has no TC of pairs"),
        (consistency(mode="etc"), "'sound, DIS: drive .4 pairs.' and 'etc, DIS: "),
        (consistency(clips=("street",)), "'sound, DIS: drive .4 pairs.' and 'sound, DIS: street"),
        (consistency() | {"clips": ["a", "b"]}, "consistency of model is not of the clips and pairs"),
        (consistency("truth") | {"model": consistency(clips=("a", "b"))["model"]}, "of the clips and pairs"),
    ],
)
def test_consistency_on_another_basis_is_refused(tmp_path, other, message):
    with pytest.raises(ConfigError, match=message):
        plot_consistency([result(consistency=consistency()), result("other", consistency=other)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_several_intervals_has_bars_of_its_shortest_and_longest(tmp_path):
    _, svg = plot_classes([result(interval=n) for n in (5, 1, 3)], tmp_path)
    assert {"default, L=1", "default, L=5"} <= set(texts(svg))
    assert "default, L=3" not in texts(svg)


def test_checkpoints_are_named_by_file_unless_two_are_called_the_same(tmp_path):
    _, svg = plot_distances([result("a/best.safetensors"), result("b/other.safetensors")], tmp_path)
    assert {"best", "other"} <= set(texts(svg))
    _, svg = plot_distances([result("a/best.safetensors"), result("b/best.safetensors")], tmp_path)
    assert {"a/best.safetensors", "b/best.safetensors"} <= set(texts(svg))


def test_input_sizes_and_propagations_of_one_model_are_models_of_their_own(tmp_path):
    results = [result(), result("a/default.safetensors", scale=0.75), result(propagation="flow")]
    _, svg = plot_distances(results, tmp_path)
    assert {"default", "default x0.75", "default (flow)"} <= set(texts(svg))


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "no result to plot"),
        ([{"dataset": "camvid"}], "result 1 of 1 lacks split, model, "),
        ([result(), result("other", split="test")], "'camvid val' and 'camvid test'"),
        ([result(), result("other", per_class={"road": 1.0})], "different classes"),
        ([result(), result()], "2 results are of default at keyframe interval 3"),
        ([result(per_distance=[60.0])], "per_distance has 1 distances"),
        ([result(hold={"per_distance": [1.0]})], "hold has 1 distances"),
        ([result(frames_per_s=0.0)], "frames_per_s is 0.0"),
        ([result(per_distance=3)], "a result is not as gsvnet evaluate writes it"),
        ([result(f"model {i}") for i in range(8)], "8 models in one plot; at most 7"),
        ([result(), result("other", device="cuda")], "different devices .* 'cpu' and 'cuda'"),
        (
            [result(speed={"device": "cuda (A)"}), result("b", speed={"device": "cuda (B)"})],
            "'cuda .A.' and 'cuda .B.'",
        ),
    ],
)
def test_what_cannot_be_plotted_together_is_refused_before_anything_is_written(tmp_path, results, message):
    with pytest.raises(ConfigError, match=message):
        write_plots(results, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_throughput_of_results_without_times_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="other at interval 3 has no frames_per_s"):
        plot_throughput([result(), result("other", frames_per_s=None)], tmp_path)


def test_distances_of_per_frame_results_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no result has more than distance 0"):
        plot_distances([result(interval=1)], tmp_path)


def test_a_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[evaluate\]"):
        plot_classes([result()], tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot make the folder .*file"):
        write_plots([result()], tmp_path / "file")


def test_results_of_one_interval_on_other_frames_are_refused():
    results = [result(num_frames=90), result("other", num_frames=79), result("longer", 12, num_frames=60)]
    with pytest.raises(ConfigError, match="interval 3, default was scored on 90 frames and other on 79"):
        read_results(results)
    assert len(read_results([results[0], results[2], result("old")])) == 3
