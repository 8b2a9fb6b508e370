"""Two outputs side by side in one video: which frames, what each half shows, and what cannot be shown so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

import gsvnet
import gsvnet.export.commands as commands
import gsvnet.video.decode
from gsvnet.classes import CAMVID, ClassSet
from gsvnet.errors import ConfigError
from gsvnet.export.beside import PairedFrame, name_outputs, open_beside, stream_pairs
from gsvnet.export.choice import choose_pairs
from gsvnet.export.config import ExportConfig
from gsvnet.export.legend import BACKGROUND, Caption, Legend
from gsvnet.export.mp4 import describe_time, draw_pair
from gsvnet.reading.pictures import blend, fit_labels, read_picture
from gsvnet.store.layout import shard_uri
from gsvnet.store.schema import ONLY_OF_LABELED, FrameRow
from gsvnet.store.write import ShardWriter

HEIGHT, WIDTH = 72, 96
NOTHING = dict.fromkeys(("pixels", "codec", "mask", *ONLY_OF_LABELED))


@pytest.fixture(scope="module")
def pair(street, tiny_model, tmp_path_factory) -> SimpleNamespace:
    """`street` and the same video labeled anew: every frame a keyframe, masks of a sixteenth of the pixels."""
    out = tmp_path_factory.mktemp("pair") / "each"
    config = gsvnet.LabelConfig(
        videos=(str(street.video),),
        out=str(out),
        model=str(tiny_model),
        keyframe_interval=1,
        mask_size="18x24",
        shard_frames=30,
        batch_chunks=2,
        cpus_per_actor=1,
        no_ray=True,
    )
    assert gsvnet.label(config).exit_code == 0
    return SimpleNamespace(first=street.out, second=str(out), id=street.id, video=street.video)


@pytest.fixture
def change(tmp_path) -> Callable[..., str]:
    """change(out, row, shard=, **footer): a copy of an output with each row of a shard changed, and its footer."""

    def copy(out: str, row: Callable[[FrameRow], FrameRow] = lambda row: row, *, shard: int = 0, **footer) -> str:
        to = str(tmp_path / f"changed-{Path(out).name}")
        labels = gsvnet.open_labels(out)
        (video,) = labels.videos
        source = labels.sources(video)[shard]
        rows = [frame.row for frame in labels.stream(video, range(source.first_frame, source.stop_frame))]
        shutil.copytree(out, to)
        Path(shard_uri(to, video, f"{shard:06d}")).unlink()
        new = replace(source.footer, **footer)
        spool = tmp_path / "spool"
        spool.mkdir(exist_ok=True)
        with ShardWriter(shard_uri(to, new.video, f"{shard:06d}"), footer=new, spool_dir=spool) as writer:
            for each in rows:
                writer.append(row(each))
        return to

    return copy


def with_status(status: str, *indices: int) -> Callable[[FrameRow], FrameRow]:
    """Gives frames a status, without labels where it is that of lost ones."""
    gone = NOTHING if status == "decode_error" else {}
    return lambda row: replace(row, status=status, **gone) if row.frame_index in indices else row


def without_shard(out: str, number: int, to: Path) -> str:
    """A copy of an output without one of its shards."""
    shutil.copytree(out, to)
    (video,) = gsvnet.open_labels(out).videos
    Path(shard_uri(str(to), video, f"{number:06d}")).unlink()
    return str(to)


def stream(first: str, second: str, **options) -> list[PairedFrame]:
    """The frames that a video of both would show."""
    config = ExportConfig(format="mp4", out=first, beside=second, to="to", **options)
    beside = open_beside(gsvnet.open_labels(first), config)
    chosen = choose_pairs(beside, config)
    return [
        frame
        for video, indices in chosen.items()
        for frame in stream_pairs(beside, video, indices, config=config, image_folder="images")
    ]


def indices_of(frames: list[PairedFrame]) -> list[int]:
    return [frame.frame_index for frame in frames]


def problems_of(frames: list[PairedFrame]) -> dict[int, tuple[str, ...]]:
    return {f.frame_index: problems for f in frames if any(problems := tuple(side.problem for side in f.sides))}


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_each_half_is_its_outputs_overlay_of_the_same_frame(pair, run_export):
    folder, said = run_export("mp4", pair.first, beside=pair.second, every=7)
    with av.open(str(folder / f"{pair.id}.mp4")) as container:
        images = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(images) == 9
    caption = Caption("", HEIGHT, WIDTH).height
    for number, image in enumerate(images):
        for left, out in ((0, pair.first), (image.shape[1] - WIDTH, pair.second)):
            picture = read_picture(gsvnet.open_labels(out), pair.id, 7 * number)
            expected = blend(picture.image, CAMVID.colourise(picture.labels))
            half = image[caption : caption + HEIGHT, left : left + WIDTH]
            assert np.abs(half - expected).mean() < 8
    assert "frames   9 of 1 video\nvideos   1 mp4" in said


def test_frames_come_with_both_outputs_labels_at_the_pictures_size(pair):
    outputs = [gsvnet.open_labels(out) for out in (pair.first, pair.second)]
    for frame in stream(pair.first, pair.second, every=13):
        for side, labels in zip(frame.sides, outputs):
            (own,) = labels.labels_at(pair.id, [frame.frame_index])
            np.testing.assert_array_equal(side.labels, fit_labels(own, (HEIGHT, WIDTH)))
            assert side.keyframe_distance == labels.row(pair.id, frame.frame_index).keyframe_distance


def test_each_picture_is_decoded_once(pair, run_export, monkeypatch):
    opened, decoded = [], []
    whole = gsvnet.video.decode.read_images

    def counting(uri, times, **options):
        opened.append(uri)
        for image in whole(uri, times, **options):
            decoded.append(image.shape)
            yield image

    monkeypatch.setattr(gsvnet.video.decode, "read_images", counting)
    run_export("mp4", pair.first, beside=pair.second)
    assert (len(opened), len(decoded)) == (1, 60)


def test_a_frame_that_one_output_lost_is_bare_there(pair, change):
    lossy = change(pair.second, with_status("decode_error", 4, 5))
    for outputs, side in (((pair.first, lossy), 1), ((lossy, pair.first), 0)):
        frames = stream(*outputs, limit=8)
        words = ("", "lost") if side else ("lost", "")
        assert problems_of(frames) == {4: words, 5: words}
        assert [frame.sides[side].labels is None for frame in frames] == [i in (4, 5) for i in range(8)]
        picture = read_picture(gsvnet.open_labels(pair.first), pair.id, 5)
        np.testing.assert_array_equal(frames[5].image, picture.image)


def test_a_damaged_frame_is_bare_too(pair, change):
    frames = stream(change(pair.first, with_status("damaged", 2)), pair.second, limit=4)
    assert problems_of(frames) == {2: ("damaged", "")}


def test_frames_that_both_lost_are_left_out_and_counted(pair, change, run_export):
    lossy = [change(out, with_status("decode_error", 1)) for out in (pair.first, pair.second)]
    assert indices_of(stream(*lossy, limit=4)) == [0, 2, 3]
    _, said = run_export("mp4", lossy[0], beside=lossy[1], limit=4)
    assert "frames   3 of 1 video; 1 lost or damaged in decoding are left out" in said
    assert "bare" not in said


@pytest.mark.parametrize("side", [0, 1])
def test_frames_that_one_output_has_no_row_of_are_missing_there(pair, tmp_path, side):
    outputs = [pair.first, pair.second]
    outputs[side] = without_shard(outputs[side], side, tmp_path / "partial")
    frames = stream(*outputs, every=10)
    absent = (0, 10, 20) if side == 0 else (30, 40, 50)
    assert indices_of(frames) == [0, 10, 20, 30, 40, 50]
    assert problems_of(frames) == dict.fromkeys(absent, ("missing", "") if side == 0 else ("", "missing"))


def test_bare_halves_are_counted(pair, tmp_path, run_export):
    partial = without_shard(pair.second, 0, tmp_path / "partial")
    _, said = run_export("mp4", pair.first, beside=partial, every=10)
    assert "bare     3 frames on the right: lost, damaged or missing there" in said


def test_what_both_have_and_what_one_has_is_chosen_alike(pair, tmp_path):
    partial = without_shard(pair.first, 0, tmp_path / "partial")
    assert indices_of(stream(partial, pair.second, where="frame_index in (3, 9, 33)", every=3)) == [3, 9, 33]
    assert indices_of(stream(partial, pair.second, every=29, limit=2)) == [0, 29]
    listed = tmp_path / "frames.csv"
    listed.write_text(f"video,frame_index\n{pair.id},41\n{pair.id},31\n")
    assert indices_of(stream(partial, pair.second, frames_from=str(listed))) == [31, 41]


def test_videos_are_matched_by_uri_where_their_ids_differ(pair, change):
    renamed = change(pair.second, video="other-0123456789ab")
    shutil.rmtree(Path(renamed) / "labels" / pair.id)
    frames = stream(pair.first, renamed, every=15)
    assert [(frame.video, frame.frame_index) for frame in frames] == [(pair.id, i) for i in (0, 15, 30, 45)]
    assert problems_of(frames) == {30: ("", "missing"), 45: ("", "missing")}
    assert indices_of(stream(renamed, pair.first, every=15)) == [0, 15, 30, 45]


def test_videos_of_one_output_alone_are_left_out_and_counted(pair, change, run_export):
    out = change(pair.first, video="night-ba9876543210", uri="night.mp4")
    folder, said = run_export("mp4", out, beside=pair.second, every=20)
    assert [path.stem for path in folder.glob("*.mp4")] == [pair.id]
    assert "beside   1 video of one output alone left out" in said


# --- how it looks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (41, 61)])
def test_a_pair_is_two_captioned_pictures_above_one_legend(pair, height, width):
    frame = stream(pair.first, pair.second, limit=1)[0]
    sides = [replace(side, labels=fit_labels(side.labels, (height, width))) for side in frame.sides]
    frame = replace(frame, image=frame.image[:height, :width], sides=(sides[0], replace(sides[1], labels=None)))
    captions = [Caption(side.caption, height, width) for side in sides]
    legend = Legend(CAMVID, height, 2 * width + 4)
    drawn = draw_pair(frame, CAMVID, legend, captions)
    top = captions[0].height
    assert [side % 2 for side in drawn.shape[:2]] == [0, 0]
    assert drawn.shape[0] - (top + height + legend.height) in (0, 1)
    np.testing.assert_array_equal(
        drawn[top : top + height, :width], blend(frame.image, CAMVID.colourise(sides[0].labels))
    )
    np.testing.assert_array_equal(drawn[top : top + height, width + 4 : 2 * width + 4], frame.image)
    assert (drawn[: top + height, width : width + 4] == BACKGROUND).all()


def test_classes_of_either_half_are_lit_up(pair):
    frame = stream(pair.first, pair.second, limit=1)[0]
    size = frame.image.shape[:2]
    sides = [replace(side, labels=np.full(size, label, np.uint8)) for side, label in zip(frame.sides, (8, 3))]
    legend = Legend(CAMVID, size[0], 2 * size[1] + 4)
    drawn = draw_pair(replace(frame, sides=tuple(sides)), CAMVID, legend, [Caption("", *size), Caption("", *size)])
    np.testing.assert_array_equal(drawn[-legend.height :], legend.draw([3, 8], describe_time(frame)))


def test_captions_say_what_tells_the_outputs_apart(pair, tmp_path):
    first, second = (gsvnet.open_labels(out) for out in (pair.first, pair.second))
    name, other = name_outputs((first, second))
    model = f"   {first.job.fields['model_settings']['family']} {first.job.model_hash[:8]}"
    assert (name, other) == (f"out   interval 5{model}", f"each   interval 1{model}")
    first.job.fields.update(propagation="two-sided", smooth=2)
    assert name_outputs((first, second))[0] == f"out   interval 5   two-sided   smooth 2{model}"
    for folder in ("before", "after"):
        shutil.copytree(pair.first, tmp_path / folder / "out")
    twins = tuple(gsvnet.open_labels(str(tmp_path / folder / "out")) for folder in ("before", "after"))
    assert [caption.split()[0] for caption in name_outputs(twins)] == ["before/out", "after/out"]
    assert [caption.split()[0] for caption in name_outputs((first, first))] == ["out", "out"]


def test_captions_hold_printable_letters_only(pair, tmp_path):
    odd = tmp_path / "a\nb\x1b[31m\u202eout"
    shutil.copytree(pair.first, odd)
    caption, _ = name_outputs((gsvnet.open_labels(str(odd)), gsvnet.open_labels(pair.second)))
    assert caption.isprintable()
    assert caption.startswith("a\\nb\\x1b[31m\\u202eout   interval 5")
    assert stream(str(odd), pair.second, limit=1)[0].sides[0].caption == caption


def test_a_long_name_leaves_the_interval_in_sight(pair, tmp_path):
    long = tmp_path / "before-training-with-the-temporal-loss-of-run-0017"
    shutil.copytree(pair.first, long)
    caption, _ = name_outputs((gsvnet.open_labels(str(long)), gsvnet.open_labels(pair.second)))
    assert caption.startswith("before-trainin...ss-of-run-0017   interval 5   ")


def columns_of(strip: np.ndarray) -> np.ndarray:
    return np.flatnonzero((strip != BACKGROUND).any(axis=(0, 2)))


def test_a_long_caption_leaves_its_note_free():
    caption = Caption("a name that is far too long for this " * 5, 360, 480)
    strip = caption.draw("11 from keyframe", "")
    assert strip.shape == (caption.height, 480, 3)
    drawn = columns_of(strip)
    assert drawn[0] > 3
    assert drawn[-1] < 477
    assert np.diff(drawn).max() > 8  # between the text and its note
    note = columns_of(Caption("", 360, 480).draw("11 from keyframe", ""))
    np.testing.assert_array_equal(strip[:, note[0] :], Caption("", 360, 480).draw("11 from keyframe", "")[:, note[0] :])


def test_a_problem_stands_in_the_notes_place_in_another_colour():
    caption = Caption("x", 360, 480)
    note, problem = caption.draw("lost", ""), caption.draw("3 from keyframe", "lost")
    np.testing.assert_array_equal(columns_of(note), columns_of(problem))
    assert np.ptp(note, axis=2).max() == 0
    assert np.ptp(problem.astype(int), axis=2).max() > 100


@pytest.mark.parametrize("width", [1, 30, 61])
def test_narrow_halves_do_no_harm(width):
    assert Caption("before   interval 5", 41, width).draw("3 from keyframe", "").shape[1] == width


# --- going on, and what is refused ------------------------------------------------------------------------------------


def test_an_interrupted_export_goes_on_to_the_same_bytes(pair, run_export, tmp_path, files_of, make_console):
    undisturbed, _ = run_export("mp4", pair.first, beside=pair.second, to=tmp_path / "whole", every=6)
    config = ExportConfig(format="mp4", out=pair.first, beside=pair.second, to=str(tmp_path / "to"), every=6)
    whole = commands.stream_pairs

    def stop(*arguments, **options):
        for number, frame in enumerate(whole(*arguments, **options)):
            if number == 4:
                raise KeyboardInterrupt
            yield frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "stream_pairs", stop)
        with pytest.raises(KeyboardInterrupt):
            commands.export(config, make_console())
    folder, _ = run_export("mp4", pair.first, beside=pair.second, to=tmp_path / "to", every=6)
    assert files_of(folder) == files_of(undisturbed)
    _, said = run_export("mp4", pair.first, beside=pair.second, to=tmp_path / "to", every=6)
    assert said == f"complete {folder} holds these 10 frames already\n"


def test_another_output_beside_or_one_that_grew_is_another_export(pair, run_export, tmp_path):
    partial = without_shard(pair.second, 1, tmp_path / "partial")
    run_export("mp4", pair.first, beside=partial, every=20)
    with pytest.raises(ConfigError, match=r"other settings \(beside: .* there, None now; captions: .* frames of each"):
        run_export("mp4", pair.first, every=20)
    missing = f"labels/{pair.id}/000001.parquet"
    shutil.copy(Path(pair.second) / missing, Path(partial) / missing)
    with pytest.raises(ConfigError, match=r"other settings \(frames of each: \[3, 2\] there, \[3, 3\] now\)"):
        run_export("mp4", pair.first, beside=partial, every=20)
    _, said = run_export("mp4", pair.first, beside=partial, every=20, overwrite=True)
    assert "bare" not in said


def test_other_formats_show_one_output_alone():
    with pytest.raises(ConfigError, match=r"^--beside goes with the format mp4, not png$"):
        ExportConfig(format="png", out="out", beside="other", to="to")


def test_outputs_of_different_classes_are_refused(pair, write_labels):
    pets = ClassSet(name="pets", names=("cat", "dog"), colours=((1, 2, 3), (4, 5, 6)))
    other = write_labels([np.zeros((4, 4), np.uint8)], classes=pets)
    with pytest.raises(ConfigError, match=r"^--beside: .* different classes, camvid \(sky, .*\) and pets \(cat, dog\)"):
        stream(pair.first, other)


def test_the_same_classes_under_another_name_are_the_same(pair, write_labels):
    renamed = ClassSet(name="mine", names=CAMVID.names, colours=CAMVID.colours[::-1])
    other = write_labels([np.zeros((4, 4), np.uint8)] * 60, classes=renamed, uri=str(pair.video), video=pair.id)
    with pytest.raises(ConfigError, match="pts"):  # that of a drawn output, so classes were let through
        stream(pair.first, other)


def test_two_times_of_a_frame_are_refused(pair, change):
    def postpone(row: FrameRow) -> FrameRow:
        return replace(row, pts=row.pts + (row.frame_index == 3))

    late = change(pair.second, postpone)
    late_and_lost = change(pair.first, lambda row: with_status("decode_error", 3)(postpone(row)))
    for outputs, pts in (((pair.first, late), (3072, 3073)), ((late_and_lost, pair.second), (3073, 3072))):
        with pytest.raises(ConfigError, match=rf"frame 3 of .* has pts {pts[0]} in .* and {pts[1]} in .*different vid"):
            stream(*outputs, limit=5)


def test_outputs_without_a_common_video_are_refused(pair, write_labels):
    other = write_labels([np.zeros((4, 4), np.uint8)])
    with pytest.raises(ConfigError, match="no video has labels in both"):
        stream(pair.first, other)
