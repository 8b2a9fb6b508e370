"""`gsvnet export`: which frames, from where, going on after a kill, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gsvnet
import gsvnet.export.commands as commands
from gsvnet.cli import main
from gsvnet.errors import (
    ConfigError,
    CorruptLabels,
    DecodeError,
    MissingExtra,
    NoSpace,
    NotAVideo,
    SourceChanged,
    StoreError,
    VideoNotFound,
)
from gsvnet.export.coco import CocoFormat
from gsvnet.export.config import ExportConfig
from gsvnet.export.formats import FORMATS
from gsvnet.export.frames import stream_frames
from gsvnet.export.target import open_target
from gsvnet.store.read import Labels
from tests.disks import small_disk
from tests.video.media import write_clip

ALL = sorted(FORMATS)


def stems(folder: Path) -> list[str]:
    return [path.stem.rpartition("-")[2].lstrip("0") or "0" for path in sorted((folder / "masks").iterdir())]


def export_and_die(after: int, config: ExportConfig, console) -> None:
    """Export in a fork that is killed when it asks for a frame after so many."""
    child = os.fork()
    if child == 0:
        whole = commands.stream_frames

        def dying(*arguments, **options):
            for number, frame in enumerate(whole(*arguments, **options)):
                if number == after:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield frame

        commands.stream_frames = dying
        commands.export(config, console)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.parametrize("form", ALL)
def test_after_a_kill_it_goes_on_to_the_same_bytes(street, run_export, tmp_path, files_of, make_console, form):
    images = {} if form == "mp4" else {"images": "jpg"}
    undisturbed, _ = run_export(form, street.out, to=tmp_path / "undisturbed", every=7, **images)
    config = ExportConfig(format=form, out=street.out, to=str(tmp_path / "to"), every=7, **images)
    for after in (0, 3, 2):
        export_and_die(after, config, make_console())
    folder, said = run_export(form, street.out, to=tmp_path / "to", every=7, **images)
    assert files_of(folder) == files_of(undisturbed)
    assert ("5 of them were there before" in said) == (form != "mp4")


@pytest.mark.parametrize("form", ALL)
def test_a_finished_export_says_so_and_does_nothing(street, run_export, files_of, form):
    folder, _ = run_export(form, street.out, every=30)
    before = files_of(folder)
    _, said = run_export(form, street.out, every=30)
    assert said == f"complete {folder} holds these 2 frames already\n"
    assert files_of(folder) == before


def test_videos_that_are_done_are_not_encoded_again(tmp_path, run_export, make_console, label_config):
    videos = [str(write_clip(tmp_path / name, num_frames=9)) for name in ("day.mp4", "night.mp4")]
    assert gsvnet.label(label_config(videos=tuple(videos))).exit_code == 0
    out = str(tmp_path / "out")
    config = ExportConfig(format="mp4", out=out, to=str(tmp_path / "to"), every=3)
    child_frames = 3 + 1  # all of the first video, one of the second
    first, second = gsvnet.open_labels(out).videos

    count = 0
    whole = commands.stream_frames

    def stop(*arguments, **options):
        nonlocal count
        for frame in whole(*arguments, **options):
            if count == child_frames:
                raise KeyboardInterrupt
            count += 1
            yield frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "stream_frames", stop)
        with pytest.raises(KeyboardInterrupt):
            commands.export(config, make_console())
    done = (tmp_path / "to" / f"{first}.mp4").stat()
    assert not (tmp_path / "to" / f"{second}.mp4").exists()
    _, said = run_export("mp4", out, to=tmp_path / "to", every=3)
    assert (tmp_path / "to" / f"{first}.mp4").stat().st_mtime_ns == done.st_mtime_ns
    assert (tmp_path / "to" / f"{second}.mp4").exists()
    assert "6 of 2 videos; 3 of them were there before" in said


def test_frames_are_chosen_by_sql_every_limit_and_video(write_labels, run_export, awkward):
    out = write_labels(awkward)
    write_labels(awkward[:2], video="night-ba9876543210", uri="s3://videos/night.mp4")
    cases = {
        "where": ({"where": "pixels.road > 1000 and frame_index > 0"}, ["2", "5", "6", "7"]),
        "every": ({"every": 3, "video": ("drive",)}, ["0", "3", "6"]),
        "limit": ({"limit": 2}, ["0", "1"]),
        "video": ({"video": ("night",)}, ["0", "1"]),
    }
    for name, (options, expected) in cases.items():
        folder, _ = run_export("png", out, to=f"{out}-{name}", **options)
        assert stems(folder) == expected, name


def test_lost_frames_are_left_out_and_counted(write_labels, run_export, awkward):
    folder, said = run_export("png", write_labels(awkward, lost=[0, 5, 7]))
    assert stems(folder) == ["1", "2", "3", "4", "6"]
    assert "frames   5 of 1 video; 3 lost or damaged in decoding are left out" in said


@pytest.mark.parametrize("form", [form for form in ALL if form != "mp4"])
def test_an_output_of_lost_frames_alone_makes_an_empty_dataset(write_labels, run_export, awkward, form):
    _, said = run_export(form, write_labels(awkward[:2], lost=[0, 1]), images="none")
    assert "frames   0 of 1 video; 2 lost or damaged in decoding are left out" in said


@pytest.mark.parametrize("form", [form for form in ALL if form != "mp4"])
def test_every_format_takes_every_map(write_labels, run_export, awkward, form):
    _, said = run_export(form, write_labels(awkward), images="none")
    assert "frames   8 of 1 video" in said
    assert "frames/s" in said


@pytest.mark.parametrize("form", [form for form in ALL if form != "mp4"])
def test_videos_of_different_sizes_share_a_dataset(write_labels, run_export, awkward, form):
    out = write_labels(awkward[:1])
    write_labels([np.zeros((8, 300), np.uint8)], video="wide-ba9876543210", uri="s3://videos/wide.mp4")
    _, said = run_export(form, out, images="none")
    assert "frames   2 of 2 videos" in said


def test_small_masks_get_their_images_size_or_keep_their_own(label_config, run_export, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", num_frames=2)
    assert gsvnet.label(label_config(videos=(str(clip),), mask_size="18x24")).exit_code == 0
    out = str(tmp_path / "out")
    alone, _ = run_export("png", out, to=tmp_path / "alone", limit=1)
    paired, _ = run_export("png", out, to=tmp_path / "paired", limit=1, images="png")
    small, large = (np.asarray(Image.open(next((to / "masks").iterdir()))) for to in (alone, paired))
    assert small.shape == (18, 24)
    np.testing.assert_array_equal(large, small.repeat(4, axis=0).repeat(4, axis=1))


def test_images_are_the_videos_own(street, run_export):
    folder, _ = run_export("png", street.out, images="png", where="frame_index = 31")
    expected = gsvnet.reading.pictures.read_picture(street.labels, street.id, 31).image
    np.testing.assert_array_equal(np.asarray(Image.open(next((folder / "images").iterdir()))), expected)


# --- where the videos are ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tiny_model, tmp_path_factory):
    """A folder with clip.mp4, its copy and the output `out` of its labels."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy2(write_clip(folder / "clip.mp4", num_frames=12), folder / "copy.mp4")
    job = {"model": str(tiny_model), "shard_frames": 12, "batch_chunks": 2, "cpus_per_actor": 1, "no_ray": True}
    config = gsvnet.LabelConfig(videos=(str(folder / "clip.mp4"),), out=str(folder / "out"), **job)
    assert gsvnet.label(config).exit_code == 0
    return folder


@pytest.fixture
def labeled(home):
    """An output and its video, which a test may move or change."""
    yield str(home / "out"), home / "clip.mp4"
    shutil.copy2(home / "copy.mp4", home / "clip.mp4")


def test_a_video_that_is_gone_is_one_line_with_the_remedy(labeled, run_export, tmp_path):
    out, video = labeled
    video.unlink()
    with pytest.raises(VideoNotFound, match=rf"{video}: say where.*--source; --images none exports the labels alone"):
        run_export("yolo", out)
    with pytest.raises(VideoNotFound, match=r"--source$"):
        run_export("mp4", out)
    assert not (tmp_path / "yolo").exists()
    run_export("yolo", out, images="none")


@pytest.mark.parametrize("name", ["clip.mp4", ""], ids=["file", "folder"])
def test_a_moved_video_is_found_by_source(labeled, run_export, tmp_path, name):
    out, video = labeled
    expected, _ = run_export("yolo", out, to=tmp_path / "before")
    (tmp_path / "elsewhere").mkdir()
    video.rename(tmp_path / "elsewhere" / "clip.mp4")
    folder, _ = run_export("yolo", out, source=str(tmp_path / "elsewhere" / name))
    image = "images/" + next((folder / "images").iterdir()).name
    assert (folder / image).read_bytes() == (expected / image).read_bytes()


def test_one_source_file_for_two_videos_is_refused(write_labels, run_export, awkward, tmp_path):
    out = write_labels(awkward[:1])
    write_labels(awkward[:1], video="night-ba9876543210", uri="s3://videos/night.mp4")
    with pytest.raises(ConfigError, match=r"is one file, but frames of 2 videos are chosen"):
        run_export("yolo", out, source=str(tmp_path / "x.mp4"))


def test_another_file_under_the_videos_name_is_noticed(labeled, run_export):
    out, video = labeled
    write_clip(video, num_frames=13)
    with pytest.raises(SourceChanged, match=r"clip\.mp4"):
        run_export("yolo", out)


def test_a_source_without_the_frames_is_noticed(labeled, run_export, tmp_path):
    out, _ = labeled
    other = write_clip(tmp_path / "other.mp4", num_frames=5)
    with pytest.raises(DecodeError, match=r"other\.mp4.*no decodable frame"):
        run_export("yolo", out, source=str(other))


def test_another_file_of_the_name_in_the_source_folder_is_noticed(labeled, run_export, tmp_path):
    out, _ = labeled
    (tmp_path / "elsewhere").mkdir()
    write_clip(tmp_path / "elsewhere" / "clip.mp4", num_frames=13)
    with pytest.raises(SourceChanged, match=r"elsewhere/clip\.mp4: has \d+ bytes"):
        run_export("yolo", out, source=str(tmp_path / "elsewhere"))


def test_pictures_bring_their_rows_along(street, monkeypatch):
    expected = street.labels.row(street.id, 7)
    monkeypatch.delattr(Labels, "row")  # it reads a row group anew
    config = ExportConfig(format="yolo", out=street.out, to="to")
    (frame,) = stream_frames(street.labels, street.id, np.array([7]), config=config, image_folder="images")
    assert (frame.frame_index, frame.pts, frame.confidence) == (7, expected.pts, expected.confidence)


# --- replacing an earlier export --------------------------------------------------------------------------------------


def hide_package(patch: pytest.MonkeyPatch, package: str) -> None:
    """Make imports of a package fail as if it were not installed."""
    for name in {package, *(name for name in sys.modules if name.startswith(f"{package}."))}:
        patch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("form", "needed"),
    [
        ("png", {"PIL"}),
        ("coco", {"cv2", "pycocotools"}),
        ("coco-panoptic", {"cv2", "pycocotools", "PIL"}),
        ("cvat", {"PIL"}),
        ("label-studio", {"av", "PIL"}),
        ("yolo", {"av", "PIL", "cv2"}),
        ("fiftyone", {"av", "PIL"}),
        ("mp4", {"av", "PIL"}),
    ],
)
def test_a_missing_package_is_missed_before_anything_is_removed(street, run_export, files_of, form, needed):
    folder, _ = run_export(form, street.out, limit=1)
    before = files_of(folder)
    for package in ("av", "PIL", "cv2", "pycocotools"):
        with pytest.MonkeyPatch.context() as patch:
            hide_package(patch, package)
            if package in needed:
                with pytest.raises(MissingExtra, match=rf"^{package} is not installed; run: .*'gsvnet\[export\]'$"):
                    run_export(form, street.out, limit=1, overwrite=True)
            else:
                run_export(form, street.out, limit=1, overwrite=True)
        assert files_of(folder) == before


def test_a_changed_video_is_noticed_before_anything_is_removed(labeled, run_export, files_of):
    out, video = labeled
    folder, _ = run_export("yolo", out)
    before = files_of(folder)
    write_clip(video, num_frames=13)
    with pytest.raises(SourceChanged):
        run_export("yolo", out, overwrite=True)
    assert files_of(folder) == before


def test_an_unreadable_video_is_noticed_before_anything_is_removed(labeled, run_export, files_of, tmp_path):
    out, _ = labeled
    folder, _ = run_export("mp4", out)
    before = files_of(folder)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(NotAVideo):
        run_export("mp4", out, source=str(tmp_path / "broken.mp4"), overwrite=True)
    assert files_of(folder) == before


def test_damaged_labels_are_noticed_before_anything_is_removed(write_labels, run_export, awkward, files_of):
    out = write_labels(awkward)
    folder, _ = run_export("png", out)
    before = files_of(folder)
    damage_mask(out, 0)
    with pytest.raises(CorruptLabels):
        run_export("png", out, overwrite=True)
    assert files_of(folder) == before


@pytest.mark.parametrize("form", ["coco", "coco-panoptic", "cvat", "label-studio", "yolo", "fiftyone"])
def test_how_to_add_images_is_said_and_works(street, run_export, form):
    folder, said = run_export(form, street.out, limit=1, images="none")
    assert "none written" in said
    assert "--images jpg (with --overwrite, or into another --to)" in said
    run_export(form, street.out, limit=1, images="jpg", overwrite=True)
    assert len(list(folder.rglob("*.jpg"))) == 1


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"where": "pixels.unicorn > 3"}, "fields of pixels, .*: sky, building"),
        ({"where": "colour = 'red'"}, "Columns: video, uri, frame_index"),
        ({"where": "frame_index >"}, "syntax"),
        ({"where": "frame_index > 100"}, r"no frame of .* is chosen by --where 'frame_index > 100' --every 1"),
        ({"video": ("day",)}, "no video with labels is called 'day'"),
    ],
)
def test_choices_that_cannot_be_are_bad_arguments(write_labels, run_export, awkward, tmp_path, options, problem):
    with pytest.raises(ConfigError, match=problem):
        run_export("png", write_labels(awkward[:2]), **options)
    assert not (tmp_path / "png").exists()


def test_an_output_without_labels_is_said(write_labels, run_export, awkward, tmp_path):
    out = write_labels(awkward[:1])
    shutil.rmtree(Path(out) / "labels")
    with pytest.raises(ConfigError, match="holds no labels yet"):
        run_export("png", out)


def test_what_is_no_output_is_said(run_export, tmp_path):
    with pytest.raises(StoreError, match="is no output of this program"):
        run_export("png", str(tmp_path))


def damage_mask(out: str, index: int) -> None:
    """Change a bit of a frame's mask in the only label file."""
    path = next(Path(out).rglob("*.parquet"))
    mask = gsvnet.open_labels(out).row("drive", index).mask
    data = path.read_bytes()
    at = data.index(mask) + len(mask) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_damaged_mask_stops_it_after_the_whole_frames(write_labels, run_export, awkward, tmp_path):
    out = write_labels(awkward)
    damage_mask(out, 4)
    with pytest.raises(CorruptLabels, match=r"000000\.parquet"):
        run_export("png", out)
    assert not list((tmp_path / "png").rglob("*.tmp"))


@pytest.mark.parametrize("form", ["mp4", "png"])
def test_a_full_disk_is_one_line_and_leaves_no_half_file(street, run_export, tmp_path, files_of, form):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        if disk is None:
            pytest.skip("no right to mount a small disk")
        images = {} if form == "mp4" else {"images": "png"}
        ballast = disk / "ballast"
        (disk / "to").mkdir()
        ballast.write_bytes(bytes(1_020_000))  # room for the journal and little more
        with pytest.raises(NoSpace, match=r"No space left on device.*make room, and the same command goes on"):
            run_export(form, street.out, to=disk / "to", **images)
        assert not list((disk / "to").rglob("*.tmp"))
        ballast.unlink()
        resumed, _ = run_export(form, street.out, to=disk / "to", every=1, **images)
        undisturbed, _ = run_export(form, street.out, **images)
        assert files_of(resumed) == files_of(undisturbed)


def test_labels_that_grew_since_are_another_export(write_labels, run_export, awkward):
    out = write_labels(awkward[:3])
    run_export("png", out)
    write_labels(awkward[:2], video="night-ba9876543210", uri="s3://videos/night.mp4")
    with pytest.raises(ConfigError, match=r"other settings \(frames: 3 there, 5 now"):
        run_export("png", out)
    _, said = run_export("png", out, overwrite=True)
    assert "frames   5 of 2 videos" in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["png", "OUT", "--to", "TO"], 0),
        (["png", "OUT", "--to", "TO", "--where", "nothing = 1"], 2),
        (["png", "OUT", "--to", "OUT"], 2),
        (["png", "OUT", "--to", "s3://bucket/x"], 2),
        (["png", "OUT", "--to", ""], 2),
        (["png", "OUT", "--beside", "OUT", "--to", "TO"], 2),
        (["mp4", "OUT", "--beside", "OUT", "--to", "TO"], 1),
        (["mp4", "OUT", "--beside", "TO", "--to", "TO"], 1),
        (["yolo", "OUT", "--to", "TO"], 1),
        (["png", "TO", "--to", "TO"], 1),
    ],
)
def test_exit_codes_and_one_line(write_labels, awkward, tmp_path, capsys, monkeypatch, arguments, code):
    names = {"OUT": write_labels(awkward[:1], uri="/nowhere/drive.mp4"), "TO": str(tmp_path / "to")}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["export", *(names.get(argument, argument) for argument in arguments)]) == code
    complaint = capsys.readouterr().err
    assert len(complaint.splitlines()) == (code != 0)
    assert complaint.startswith("gsvnet: ") == (code != 0)
    assert list(Path().iterdir()) == []


def test_a_file_uri_is_the_folder_it_names(write_labels, run_export, awkward, tmp_path):
    run_export("png", write_labels(awkward[:1]), to=f"file://{tmp_path}/to")
    assert stems(tmp_path / "to") == ["0"]


def test_names_that_leave_the_folder_are_refused(write_labels, run_export, awkward, tmp_path, monkeypatch):
    out = write_labels(awkward[:1])
    evil = {"../evil": np.array([0])}
    monkeypatch.setattr(commands, "choose_frames", lambda *arguments, **options: evil)
    with pytest.raises(ConfigError, match=r"'\.\./evil' is no name"):
        run_export("png", out)


# --- size -------------------------------------------------------------------------------------------------------------


def test_binding_many_frames_together_needs_little_memory(write_labels, awkward, tmp_path):
    """2,000 frames with 20 kB of annotations each: 40 MB in the journal and in instances.json."""
    labels = gsvnet.open_labels(write_labels(awkward[:1]))
    form = CocoFormat(labels, ExportConfig(format="coco", out="", to="to"))
    segmentation = {"size": [41, 61], "counts": "0" * 20_000}
    record = {"image": {"file_name": "x.jpg"}, "annotations": [{"category_id": 1, "segmentation": segmentation}]}
    with open_target(tmp_path / "to", {}, overwrite=False) as target:
        for index in range(2000):
            target.record("v", index, 1, record)
        tracemalloc.start()
        form.finish(target, target.records)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "to" / "instances.json").stat().st_size > 40e6
    assert peak < 1e6


def test_progress_is_drawn_on_a_terminal_only(write_labels, awkward, tmp_path, make_console):
    out = write_labels(awkward)
    for is_terminal in (False, True):
        console = make_console(force_terminal=is_terminal)
        commands.export(ExportConfig(format="png", out=out, to=str(tmp_path / f"to-{is_terminal}")), console)
        assert ("8/8" in console.file.getvalue()) == is_terminal


@pytest.mark.s3
def test_labels_in_a_bucket_are_exported(moto_s3, write_labels, run_export, awkward):
    bucket = moto_s3.make_bucket()
    local = Path(write_labels(awkward[:3]))
    for path in local.rglob("*"):
        if path.is_file():
            key = f"out/{path.relative_to(local).as_posix()}"
            moto_s3.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    options = {"storage_options": moto_s3.options}
    folder, _ = run_export("png", f"s3://{bucket}/out", where="frame_index < 2", **options)
    assert stems(folder) == ["0", "1"]


def test_settings_are_the_first_line_of_the_journal(write_labels, run_export, awkward):
    folder, _ = run_export("png", write_labels(awkward), every=4, where="true")
    first = json.loads((folder / ".gsvnet-export.jsonl").read_text().splitlines()[0])["export"]
    assert {
        name: first[name] for name in ("format", "where", "every", "limit", "video", "images", "ids", "frames")
    } == {
        "format": "png",
        "where": "true",
        "every": 4,
        "limit": None,
        "video": [],
        "images": "none",
        "ids": "own",
        "frames": 2,
    }
