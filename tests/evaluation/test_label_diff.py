"""`gsvnet diff`: how far two outputs agree, on masks small enough to count by hand."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
from gsvnet.cli import main
from gsvnet.errors import ConfigError
from gsvnet.evaluation.config import DiffConfig
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.label_diff import Relabeling, count_pairs, diff
from gsvnet.maintenance.compaction import compact_output
from gsvnet.maintenance.config import CompactConfig
from tests.drawn import Drawn, write_video

VIDEO, NIGHT = "drive-0123456789ab", "night-ba9876543210"
SKY, BUILDING, POLE, ROAD, CAR = 0, 1, 2, 3, 8


def fill(*rows: tuple[int, int]) -> np.ndarray:
    """A mask of 10 columns: so many rows of each class."""
    return np.concatenate([np.full((number, 10), label, np.uint8) for label, number in rows])


@pytest.fixture
def write(tmp_path):
    """write(name, masks, **options): an output in tmp_path whose frames have these masks (None: lost).

    damaged: frames that are marked so.
    """

    def write(name, masks, *, video=VIDEO, step_s=0.1, interval=2, damaged=(), **options) -> str:
        frames = [
            Drawn(labels=mask, time_s=i * step_s, interval=interval, damaged=i in damaged)
            for i, mask in enumerate(masks)
        ]
        write_video(str(tmp_path / name), video, frames, spool=tmp_path / "spool", **options)
        return str(tmp_path / name)

    return write


@pytest.fixture
def compare(make_console):
    """compare(out1, out2, **options): the result as JSON."""

    def compare(out1, out2, *, exit_code=0, **options):
        console = make_console(soft_wrap=True)
        assert diff(DiffConfig(out1=out1, out2=out2, json=True, **options), console) == exit_code
        return json.loads(console.file.getvalue())

    return compare


def test_equal_outputs_agree_wholly(write, compare):
    masks = [fill((SKY, i), (ROAD, 4)) for i in range(1, 5)]
    out = write("a", masks, shard_frames=3)
    found = compare(out, write("b", masks, shard_frames=2))
    assert (found["agreement"], found["miou"], found["frames"], found["frames_equal"]) == (1.0, 1.0, 4, 4)
    assert found["worst_frames"] == []
    assert {name: iou for name, iou in found["iou"].items() if iou is not None} == {"sky": 1.0, "road": 1.0}


def test_shares_and_ious_are_exact(write, compare):
    found = compare(write("a", [fill((SKY, 5), (ROAD, 5))]), write("b", [fill((SKY, 4), (ROAD, 4), (CAR, 2))]))
    assert found["agreement"] == 0.7
    assert (found["iou"]["sky"], found["iou"]["road"], found["iou"]["car"]) == (4 / 5, 3 / 6, None)
    assert found["miou"] == pytest.approx(0.65)


def test_ignored_pixels_count_as_the_rule_says(write, compare):
    """Of 10 rows OUT1 ignores two, of the others OUT2 ignores one."""
    first, second = fill((255, 2), (ROAD, 8)), fill((ROAD, 2), (255, 1), (ROAD, 7))
    found = compare(write("a", [first]), write("b", [second]))
    assert found["agreement"] == 7 / 8
    assert "pixels that OUT1 ignores are not counted" in found["rule"]


def test_a_frame_that_is_ignored_all_over_has_no_agreement(write, compare, tmp_path):
    masks = [fill((255, 4)), fill((ROAD, 4))]
    found = compare(write("a", masks), write("b", masks), frames=tmp_path / "f.parquet")
    assert (found["agreement"], found["frames"]) == (1.0, 2)
    assert pq.read_table(tmp_path / "f.parquet")["agreement"].to_pylist() == [None, 1.0]


def test_agreement_by_keyframe_distance_of_the_second(write, compare):
    a, b = fill((ROAD, 4)), fill((ROAD, 3), (CAR, 1))
    found = compare(write("a", [a] * 4), write("b", [a, b, a, a]))
    assert [(each["keyframe_distance"], each["agreement"]) for each in found["by_keyframe_distance"]] == [
        (0, 1.0),
        (1, 7 / 8),
    ]


def test_labels_without_keyframes_are_a_row_of_their_own(write, compare):
    mask = fill((ROAD, 4))
    found = compare(write("a", [mask] * 2), write("b", [mask] * 2, interval=None))
    assert [each["keyframe_distance"] for each in found["by_keyframe_distance"]] == [None]


def test_the_worst_frames_are_listed_worst_first(write, compare):
    good, bad, worse = fill((ROAD, 10)), fill((ROAD, 9), (CAR, 1)), fill((CAR, 10))
    found = compare(write("a", [good] * 5), write("b", [bad, good, worse, good, bad]), worst=2)
    assert [(frame["frame_index"], frame["agreement"]) for frame in found["worst_frames"]] == [(2, 0.0), (0, 0.9)]
    assert found["worst_frames"][0]["time_s"] == 0.2
    assert compare(f"{found['out1']}", found["out2"], worst=0)["worst_frames"] == []


def test_lost_frames_are_left_out(write, compare):
    mask = fill((ROAD, 12))
    found = compare(write("a", [mask, None, mask, None]), write("b", [mask, mask, None, None]))
    assert (found["frames"], found["frames_lost"], found["agreement"]) == (1, 3, 1.0)


def test_labels_of_damaged_pictures_are_compared(write, compare):
    good, bad = fill((ROAD, 4)), fill((CAR, 4))
    found = compare(write("a", [good] * 2), write("b", [good, bad], damaged={1}))
    assert (found["frames"], found["frames_lost"], found["agreement"]) == (2, 0, 0.5)


def test_a_bound_is_kept_up_to_the_very_pixel(write, compare):
    """3 of 400 pixels differ."""
    bad = fill((ROAD, 10)).copy()
    bad[0, :3] = CAR
    first, second = write("a", [fill((ROAD, 10))] * 4), write("b", [fill((ROAD, 10))] * 3 + [bad])
    found = compare(first, second, max_differing=3 / 400)
    assert (found["pixels"], found["pixels_differing"], found["keeps_bound"]) == (400, 3, True)
    assert compare(first, second, max_differing=0.0074, exit_code=1)["keeps_bound"] is False
    assert compare(first, second)["keeps_bound"] is None
    assert compare(first, first, max_differing=0.0)["keeps_bound"] is True


def test_no_bound_is_kept_where_one_output_lacks_labels(write, compare):
    mask = fill((ROAD, 4))
    first, fewer = write("a", [mask] * 4), write("b", [mask] * 3)
    lost, more = write("c", [mask] * 3 + [None]), write("d", [mask] * 4)
    write("d", [mask], video=NIGHT)
    for other in (fewer, lost, more):
        compare(first, other, max_differing=1.0, exit_code=1)
        compare(other, first, max_differing=1.0, exit_code=1)
    compare(lost, lost, max_differing=0.0)  # lost in both
    compare(first, more, max_differing=0.0, video=("drive",))  # the other video was not asked about


def test_where_no_pixel_counts_no_bound_is_kept(write, compare):
    out = write("a", [fill((255, 4))])
    compare(out, out, max_differing=1.0, exit_code=1)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_bound_is_a_share(share):
    with pytest.raises(ConfigError, match="a share of the pixels, from 0 to 1"):
        DiffConfig(out1="a", out2="b", max_differing=share)


def test_frames_that_only_one_has_are_listed(write, compare):
    mask = fill((ROAD, 4))
    first = write("a", [mask] * 3)
    write("a", [mask] * 2, first_frame=6, first_shard=2)
    found = compare(first, write("b", [mask] * 5))
    assert found["frames"] == 3
    assert found["frames_in_one_only"] == [
        {"out": 1, "video": VIDEO, "frames": 2, "ranges": [[6, 8]]},
        {"out": 2, "video": VIDEO, "frames": 2, "ranges": [[3, 5]]},
    ]


def test_every_nth_frame(write, compare):
    mask = fill((ROAD, 4))
    found = compare(write("a", [mask] * 7), write("b", [mask] * 10), every=3)
    assert (found["frames"], found["frames_in_one_only"][0]["ranges"]) == (3, [[9, 10]])


def test_videos_are_matched_by_id_and_else_by_uri(write, compare):
    mask = fill((ROAD, 4))
    for name, moved in (("a", "moved-000000000001"), ("b", "other-000000000002")):
        write(name, [mask] * 2)
        write(name, [mask] * 3, video=moved, uri="s3://x/moved.mp4")
        out = write(name, [mask], video=f"{name}-000000000003")
    found = compare(out.replace("/b", "/a"), out)
    assert (found["videos"], found["frames"]) == ([VIDEO, "moved-000000000001"], 5)
    assert (found["videos_only_in_1"], found["videos_only_in_2"]) == (["a-000000000003"], ["b-000000000003"])


def test_chosen_videos(write, compare):
    mask = fill((ROAD, 4))
    for name in ("a", "b"):
        write(name, [mask] * 2)
        out = write(name, [mask], video=NIGHT)
    assert compare(out.replace("/b", "/a"), out, video=("night",))["videos"] == [NIGHT]
    with pytest.raises(ConfigError, match="no video with labels is called 'day'"):
        compare(out, out, video=("day",))


def test_a_larger_mask_is_read_at_the_smaller_ones_pixels(write, compare):
    small = fill((SKY, 3), (ROAD, 2), (CAR, 5))
    large = np.kron(small, np.ones((2, 3))).astype(np.uint8)
    for first, second in ((small, large), (large, small)):
        name = f"{first.shape[0]}"
        found = compare(write(f"a{name}", [first]), write(f"b{name}", [second]))
        assert (found["agreement"], found["frames_resized"]) == (1.0, 1)


def test_classes_that_merge_are_compared_after_merging(write, compare):
    ids = {name: i for i, name in enumerate(CITYSCAPES.names)}
    fine = fill((ids["car"], 2), (ids["bus"], 1), (ids["wall"], 3))
    coarse = fill((CAR, 3), (BUILDING, 3))
    first, second = write("a", [fine], classes=CITYSCAPES), write("b", [coarse])
    found = compare(first, second)
    assert (found["agreement"], found["merged"]) == (
        1.0,
        "classes of OUT1 (cityscapes) were merged into those of OUT2 (camvid)",
    )
    assert set(found["iou"]) == set(CAMVID.names)
    assert compare(second, first)["merged"] == "classes of OUT2 (cityscapes) were merged into those of OUT1 (camvid)"


def test_classes_in_another_order_are_the_same_classes(write, compare):
    names = ("sky", "road side", "groß")
    one = ClassSet(name="one", names=names, colours=((0, 0, 0),) * 3)
    two = ClassSet(name="two", names=names[::-1], colours=((0, 0, 0),) * 3)
    found = compare(
        write("a", [fill((0, 1), (1, 2), (2, 3))], classes=one), write("b", [fill((2, 1), (1, 2), (0, 3))], classes=two)
    )
    assert (found["agreement"], list(found["iou"])) == (1.0, list(names))


def test_classes_that_do_not_merge_are_a_config_error(write, compare):
    other = ClassSet(name="mine", names=("cat", "dog"), colours=((0, 0, 0),) * 2)
    with pytest.raises(ConfigError, match=r"cannot be compared: camvid .* and mine \(cat, dog\)"):
        compare(write("a", [fill((SKY, 1))]), write("b", [fill((0, 1))], classes=other))


def test_other_times_are_another_video(write, compare):
    masks = [fill((SKY, 2))] * 3
    with pytest.raises(ConfigError, match=r"frame 1 of drive-.* has pts 1280 .* and 2560 .*different videos"):
        compare(write("a", masks), write("b", masks, step_s=0.2))


def test_nothing_to_compare_is_a_config_error(write, compare):
    masks = [fill((SKY, 2))] * 3
    out = write("a", masks)
    with pytest.raises(ConfigError, match="no video has labels in both"):
        compare(out, write("b", masks, video=NIGHT))
    with pytest.raises(ConfigError, match="no frame in common"):
        compare(out, write("c", masks, first_frame=10, first_shard=1))


def test_each_frame_goes_into_a_file_that_must_be_new(write, compare, tmp_path):
    good, bad = fill((ROAD, 4)), fill((ROAD, 3), (CAR, 1))
    first, second = write("a", [good] * 4), write("b", [good, bad, good, bad])
    path = tmp_path / "frames.parquet"
    compare(first, second, frames=path)
    assert pq.read_table(path).to_pylist() == [
        {"video": VIDEO, "frame_index": i, "agreement": 0.75 if i % 2 else 1.0} for i in range(4)
    ]
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"frames\.parquet exists"):
        compare(first, second, frames=path)
    assert path.read_bytes() == before


def test_a_comparison_that_fails_leaves_no_file(write, compare, tmp_path):
    masks = [fill((SKY, 2))] * 3
    with pytest.raises(ConfigError):
        compare(write("a", masks), write("b", masks, step_s=0.2), frames=tmp_path / "frames.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "spool"}


def test_a_folder_that_is_not_there_is_a_config_error(write, compare, tmp_path):
    out = write("a", [fill((SKY, 2))])
    with pytest.raises(ConfigError, match="cannot write"):
        compare(out, out, frames=tmp_path / "nowhere" / "f.parquet")


def test_a_compacted_copy_agrees_wholly_with_its_source(write, compare, tmp_path):
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 11, (8, 9)).astype(np.uint8) for _ in range(12)]
    write("a", [*masks[:5], None, *masks[5:]], shard_frames=5)
    out = write("a", masks, video=NIGHT, shard_frames=7)
    compact_output(CompactConfig(out=out, to=str(tmp_path / "b"), target_mb=0.02))
    found = compare(out, str(tmp_path / "b"))
    assert (found["agreement"], found["frames"], found["frames_equal"], found["frames_lost"]) == (1.0, 24, 24, 1)
    assert (found["frames_in_one_only"], found["videos_only_in_1"], found["videos_only_in_2"]) == ([], [], [])


def test_pairs_are_counted_like_a_confusion_matrix():
    rng = np.random.default_rng(0)
    own = np.arange(256, dtype=np.uint8)
    relabeling = Relabeling(classes=CAMVID, first=own, second=own)
    for size in ((1, 1), (5, 1), (13, 17)):
        truth, labels = (rng.choice([*range(11), 255], size).astype(np.uint8) for _ in range(2))
        matrix = ConfusionMatrix(11)
        matrix.update(truth, labels)
        np.testing.assert_array_equal(count_pairs(truth, labels, relabeling), matrix.counts, strict=True)


def test_lines_for_people(write, capsys):
    good, bad = fill((ROAD, 10_000)), fill((ROAD, 9_999), (CAR, 1))
    first, second = write("a", [good] * 2), write("b", [good, bad, bad])
    assert main(["diff", first, second]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"outputs  {first} and {second}",
        "videos   1 compared",
        "frames   2 compared, 1 of them equal",
        "equal    99.99 % of the pixels, mIoU 99.99 %",  # never 100.00 % for less
    ]
    assert lines[4] == "differ   10 of 200,000 pixels (0.005 %), in 1 frame"
    assert f"in OUT2  1 frame that the other lacks: {VIDEO} 2-2" in lines
    assert lines[-1] == f"worst    {VIDEO} frame 1 at 0.100 s: 99.99 % equal"
    assert any(
        a.split()[:1] == ["class"] and b.split() == ["road", "99.99", "%", "100.00", "%"] for a, b in pairwise(lines)
    )


def test_a_bound_in_words(write, capsys):
    good, bad = fill((ROAD, 10_000)), fill((ROAD, 9_999), (CAR, 1))
    first, second = write("a", [good] * 2), write("b", [good, bad])
    for share, code, words in (
        ("0.0001", 0, "at most 0.01 % of the pixels: kept"),
        ("0.00001", 1, "at most 0.001 % of the pixels: not kept"),
    ):
        assert main(["diff", first, second, "--max-differing", share]) == code
        assert f"bound    {words}" in capsys.readouterr().out.splitlines()
    assert main(["diff", first, write("c", [good, None, good]), "--max-differing", "0"]) == 1
    words = "bound    at most 0 % of the pixels: not kept, 1 frame lost in one of them, not the same frames"
    assert words in capsys.readouterr().out.splitlines()


def test_nothing_to_compare_is_exit_code_2(write, capsys):
    assert main(["diff", write("a", [fill((SKY, 2))]), write("b", [fill((SKY, 2))], video=NIGHT)]) == 2
    assert "no video has labels in both" in capsys.readouterr().err
