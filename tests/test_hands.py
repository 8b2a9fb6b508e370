"""What hands do to an output, to its videos and to its lists between two commands: nothing wrong goes unsaid."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import gsvnet
from gsvnet.cli import main
from gsvnet.errors import CorruptLabels
from gsvnet.reading.pictures import stream_pictures
from tests.outputs import failures, shards_of


@pytest.fixture
def video(media, tmp_path):
    """A video of 24 frames, two shards. video.again(n): the file is another one with n frames from now on."""

    class Clip(str):
        def again(self, num_frames):
            media.write_clip(tmp_path / self, num_frames=num_frames)

    clip = Clip("clip.mp4")
    clip.again(24)
    return clip


def run(capsys, *arguments):
    """Exit code and all output of a gsvnet command, its lines joined."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, re.sub(r"\s+", " ", captured.out + captured.err)


def test_a_name_that_begins_with_a_dash_is_labeled(gsvnet_label, drive, tmp_path):
    (tmp_path / "drives").mkdir()
    (tmp_path / "drives" / "-lead.mp4").symlink_to(drive)
    assert gsvnet_label("drives")[0] == 0
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_a_video_that_was_replaced_is_refused_without_its_plan_too(gsvnet_label, video, capsys):
    assert gsvnet_label(video)[0] == 0
    assert run(capsys, "verify", "out")[0] == 0
    video.again(20)
    shutil.rmtree("out/_plan")
    (second := shards_of("out")[1]).unlink()
    code, printed, _ = gsvnet_label(video)
    assert (code, "the file changed since it was labeled" in printed) == (3, True)
    assert [record["error"] for record in failures()] == ["SourceChanged"]
    assert not second.exists()
    assert not Path("out/_SUCCESS").exists()


def test_labels_of_two_files_under_one_name_are_found_by_verify(gsvnet_label, video, capsys):
    assert gsvnet_label(video)[0] == 0
    old = shards_of("out")[0]
    kept = old.read_bytes()
    shutil.rmtree("out")
    video.again(30)
    assert gsvnet_label(video)[0] == 0
    old.write_bytes(kept)
    shutil.rmtree("out/_plan")
    code, said = run(capsys, "verify", "out")
    assert code == 1
    assert "labels of another file" in said


def test_an_export_of_a_video_that_was_replaced_is_not_called_complete(gsvnet_label, video, capsys):
    assert gsvnet_label(video)[0] == 0
    export = ("export", "png", "out", "--to", "png")
    assert run(capsys, *export)[0] == 0
    code, said = run(capsys, *export)
    assert (code, "holds these 24 frames already" in said) == (0, True)
    video.again(24)
    shutil.rmtree("out")
    assert gsvnet_label(video)[0] == 0
    code, said = run(capsys, *export)
    assert (code, "holds an export with other settings (video files:" in said) == (2, True)


def test_outputs_of_two_files_are_compared_with_a_word(gsvnet_label, video, capsys):
    assert gsvnet_label(video)[0] == 0
    video.again(30)
    assert gsvnet_label(video, out="other")[0] == 0
    assert "of another size in each output" in run(capsys, "diff", "out", "other")[1]
    assert "of another size" not in run(capsys, "diff", "out", "out")[1]


def test_a_refused_interval_does_not_claim_the_output_that_was_planned(gsvnet_label, video, capsys, tiny_model):
    usual = ("--model", tiny_model, "--cpus-per-actor", 1, "--shard-frames", 12)
    assert run(capsys, "plan", video, "--out", "out", *usual, "--no-calibrate", "--no-ray")[0] == 0
    code, _, said = gsvnet_label(video, "--keyframe-interval", "3")
    assert (code, "--keyframe-interval 5 there, 3 now" in said) == (2, True)
    assert not Path("out/_job.json").exists()
    assert gsvnet_label(video)[0] == 0


@pytest.fixture
def mixed(gsvnet_label, video, drive):
    """An output into which labels of another job, at another interval, were copied."""
    assert gsvnet_label(drive)[0] == gsvnet_label(video, "--keyframe-interval", "3", out="other")[0] == 0
    shutil.copytree("other/labels", "out/labels", dirs_exist_ok=True)
    shutil.copytree("other/_plan", "out/_plan", dirs_exist_ok=True)
    return "out"


def test_labels_of_another_job_are_not_read_as_this_ones(mixed):
    labels = gsvnet.open_labels(mixed)
    assert labels.labels_at("drive", [3]).shape == (1, 72, 96)
    with pytest.raises(CorruptLabels, match="belongs to another job"):
        labels.labels_at("clip", [3])


def test_labels_of_another_job_get_no_success(mixed, gsvnet_label, drive):
    code, _, said = gsvnet_label(drive)
    assert (code, "belongs to another job" in said) == (1, True)
    assert not Path(mixed, "_SUCCESS").exists()


def test_a_label_file_cut_short_ends_the_job_and_stands_in_the_report(gsvnet_label, label_config, video, capsys):
    assert gsvnet_label(video)[0] == 0
    cut = shards_of("out")[1]
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(CorruptLabels, match="gsvnet verify says what to do"):
        gsvnet.label(label_config(videos=(video,)))
    assert not Path("out/_SUCCESS").exists()
    assert "the last run that ended had exit code 1" in run(capsys, "status", "out")[1]
    cut.unlink()
    assert gsvnet_label(video)[0] == 0


def test_a_copy_of_a_label_file_counts_no_frame_twice(gsvnet_label, video, capsys):
    assert gsvnet_label(video)[0] == 0
    shutil.copy(shards_of("out")[0], shards_of("out")[0].with_name("000000 (copy).parquet"))
    assert gsvnet_label(video)[0] == 0
    labels = gsvnet.open_labels("out")
    assert labels.frames.count_rows() == 24
    assert labels.indices("clip").tolist() == list(range(24))
    code, said = run(capsys, "verify", "out")
    assert (code, "readers may take it for one" in said) == (1, True)


def test_a_typo_in_a_list_stands_in_the_way_of_success_and_is_told(gsvnet_label, video, capsys):
    assert gsvnet_label("cilp.mp4", video)[0] == 3
    code, printed, _ = gsvnet_label(video)
    assert (code, "no _SUCCESS: _failed/ lists videos that were not asked for now" in printed) == (0, True)
    [record] = failures()
    said = run(capsys, "verify", "out")[1]
    assert f"or delete _failed/{record['video']} and its plan if it is not to be labeled any more" in said
    shutil.rmtree(f"out/_failed/{record['video']}")
    assert gsvnet_label(video)[0] == 0
    assert Path("out/_SUCCESS").exists()


def test_exported_videos_are_no_videos_of_the_folder_they_lie_in(gsvnet_label, drive, tmp_path, capsys):
    (tmp_path / "drives").mkdir()
    (tmp_path / "drives" / "a.mp4").symlink_to(drive)
    assert gsvnet_label("drives")[0] == 0
    assert run(capsys, "export", "mp4", "out", "--to", "drives/shown")[0] == 0
    code, printed, _ = gsvnet_label("drives")
    assert (code, "1 video in folders that gsvnet export wrote left out" in printed) == (0, True)
    assert gsvnet.open_labels("out").videos == [path.name for path in Path("out/labels").iterdir()]
    assert len(gsvnet.open_labels("out").videos) == 1


def test_a_folder_of_exported_videos_alone_has_no_video_and_says_why(gsvnet_label, drive, capsys):
    assert gsvnet_label(drive)[0] == 0
    assert run(capsys, "export", "mp4", "out", "--to", "shown")[0] == 0
    code, _, said = gsvnet_label("shown", out="other")
    assert (code, "1 video in folders that gsvnet export wrote left out" in said) == (2, True)


def test_pictures_are_asked_for_by_ascending_integers(gsvnet_label, video):
    assert gsvnet_label(video)[0] == 0
    labels = gsvnet.open_labels(Path("out"))
    for indices in (np.array([False, True]), [2.9], 3):
        with pytest.raises(gsvnet.ConfigError, match="frame ind"):
            next(stream_pictures(labels, "clip", indices))
    for indices in ([5, 3], [3, 3, 4]):
        with pytest.raises(gsvnet.ConfigError, match="must ascend"):
            next(stream_pictures(labels, "clip", indices))


def test_a_video_is_known_by_the_path_that_was_typed(gsvnet_label, video):
    assert gsvnet_label(video)[0] == 0
    labels = gsvnet.open_labels("out")
    Path("elsewhere").mkdir()
    for path in ("clip.mp4", "./clip.mp4", "elsewhere/../clip.mp4", str(Path("clip.mp4").absolute())):
        assert labels.find_video(path) == labels.videos[0]


def test_a_graphics_card_that_is_not_there_is_one_line_and_claims_nothing(gsvnet_label, video, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, said = gsvnet_label(video, "--device", "cuda")
    assert (code, said) == (2, "gsvnet: --device cuda: torch sees no CUDA device here\n")
    assert not Path("out").exists()
