from __future__ import annotations

import json
import re
import shutil

import pytest

from gsvnet.cli import main
from gsvnet.errors import OutputConflict
from gsvnet.labeling import forecast, preview_text
from gsvnet.labeling.config import PlanConfig
from gsvnet.labeling.forecast import Forecast, Speed
from gsvnet.labeling.job import label
from gsvnet.labeling.preview import Preview, preview
from gsvnet.labeling.preview_text import describe_preview, preview_to_dict, show_preview
from gsvnet.labeling.survey import Group, ShareCount, SizeCount, Survey
from gsvnet.store.job import list_plans


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(forecast, "MEASURE_S", 0.2)


@pytest.fixture
def look(label_config, make_console):
    return lambda **changes: preview(
        PlanConfig(no_calibrate=changes.pop("no_calibrate", True), job=label_config(**changes)), console=make_console()
    )


def large_job(label_config, **changes) -> Preview:
    survey = Survey(array_count=4)
    survey.num_videos, survey.media_s, survey.num_frames = 1204, 2310.4 * 3600, 249_523_200
    survey.num_shards, survey.num_shards_done, survey.num_bytes = 138_624, 600, 3_120_000_000_000
    survey.num_scanned, survey.scanned_bytes = 24, 61_200_000_000
    survey.sizes = {
        (1080, 1920): SizeCount(videos=1100),
        (720, 1280): SizeCount(videos=80),
        (540, 960): SizeCount(videos=20),
        (2160, 3840): SizeCount(videos=4),
    }
    survey.shares = [ShareCount(videos=290 + i, frames=60_000_000 + i) for i in range(4)]
    cut = "the header declares 54,000 frames, 51,212 are there: cut short?"
    survey.problems = {"cut": Group(text=cut, count=12, examples=[f"s3://videos/{i}.mp4" for i in range(3)])}
    survey.failed = {"NotAVideo": Group(text="NotAVideo", count=1, examples=["s3://videos/x.mp4: the file is empty"])}
    speeds = tuple(
        Speed(height=h, width=w, num_frames=4200, seconds=4200 / rate, label_bytes=4200 * 900)
        for h, w, rate in ((1080, 1920, 540.0), (720, 1280, 812.0))
    )
    expected = Forecast(
        device="cuda",
        precision="bf16",
        num_actors=8,
        gpus_per_actor=1.0,
        cpus_per_actor=8,
        speeds=speeds,
        start_s=20.0,
        work_s=455_000.0,
        label_bytes=220_000_000_000,
        frames_like_others=1_200_000,
    )
    return Preview(config=label_config(**{"gpu_hour_price": 2.0} | changes), survey=survey, forecast=expected)


def test_all_that_decides_about_a_job_is_said_and_fits_on_a_line(label_config):
    lines = describe_preview(large_job(label_config))
    assert lines == [
        ("videos", "1,204, 2,310.4 hours, 3.1 TB"),
        ("frames", "249,523,200"),
        ("sizes", "1,100 of 1080x1920, 80 of 720x1280, 20 of 540x960, 4 of 1 other size"),
        ("shards", "138,624, of which 600 are labeled already"),
        ("numbers", "1,180 from headers, 24 from a full scan (61.2 GB read)"),
        ("array", "4 jobs: 290 to 293 videos, 60,000,000 to 60,000,003 frames each"),
        ("problems", "12 videos, such as:"),
        ("", "  the header declares 54,000 frames, 51,212 are there: cut short?"),
        ("", "  s3://videos/0.mp4"),
        ("", "  s3://videos/1.mp4"),
        ("", "  s3://videos/2.mp4"),
        ("", "  and 9 more"),
        ("failed", "1 video: NotAVideo"),
        ("", "  s3://videos/x.mp4: the file is empty"),
        ("speed", "540.0 frames/s per actor at 1080x1920 (measured on 4,200 frames)"),
        ("", "812.0 frames/s per actor at 720x1280 (measured on 4,200 frames)"),
        ("", "1,200,000 frames of other sizes count as the next in size"),
        ("to do", "126 GPU hours: 15.8 hours on 8 actors (cuda, bf16)"),
        ("labels", "about 220.0 GB"),
        ("price", "252.87 at 2.00 a GPU hour"),
    ]
    assert max(len(name.ljust(10)) + len(text) for name, text in lines) <= 80


def test_lines_are_not_wrapped_on_a_narrow_terminal(label_config, make_console):
    console = make_console(width=40)
    show_preview(large_job(label_config), console)
    text = console.file.getvalue()
    assert text.count("\n") == len(describe_preview(large_job(label_config)))
    assert "\nshards    138,624, of which" in text


def test_without_gpus_there_is_no_price(look, label_config):
    result = look(no_calibrate=False, gpu_hour_price=2.0)
    lines = dict(describe_preview(result))
    assert result.price is None
    assert lines["price"] == "no GPU here: plan where the job will run"
    assert "core hours" in lines["to do"]


def test_a_real_clip_is_planned_and_nothing_is_written(look, tmp_path):
    before = set(tmp_path.rglob("*"))
    lines = dict(describe_preview(look(out="")))
    assert lines["frames"] == "60"
    assert lines["sizes"] == "1 of 72x96"
    assert int(lines["shards"]) >= 5
    assert set(tmp_path.rglob("*")) == before


def test_plans_are_kept_in_the_output_for_labeling(look, label_config):
    look()
    assert len(list_plans(label_config().out)) == 1
    assert label(label_config()).exit_code == 0
    result = look(no_calibrate=False)
    assert (result.survey.frames_to_label, result.forecast) == (0, None)
    assert dict(describe_preview(result))["to do"] == "nothing: every frame has its labels"


def test_an_output_that_is_cut_otherwise_is_named(look, label_config):
    label(label_config())
    with pytest.raises(OutputConflict, match=r"--shard-frames: 12 in the output, 20 now"):
        look(shard_frames=20)


def test_an_array_job_plans_its_own_videos_and_a_count_alone_shows_the_split(look, drive, tmp_path):
    videos = tuple(shutil.copy(drive, tmp_path / f"{i}.mp4") and str(tmp_path / f"{i}.mp4") for i in range(8))
    alone = [look(videos=videos, out="", array_count=2, array_index=i).survey.num_videos for i in (0, 1)]
    both = look(videos=videos, out="", array_count=2)
    assert sum(alone) == both.survey.num_videos == 8
    assert [share.videos for share in both.survey.shares] == alone
    assert "2 jobs" in dict(describe_preview(both))["array"]


def test_a_video_that_cannot_be_used_is_named_and_decides_the_exit_code(look, drive, tmp_path):
    (tmp_path / "empty.mp4").touch()
    videos = (str(drive), str(tmp_path / "empty.mp4"))
    result = look(videos=videos, out="")
    assert result.exit_code == 3
    assert dict(describe_preview(result))["failed"] == "1 video: NotAVideo"
    limits = type(label_limits := result.config.limits)(max_failed_fraction=0.5)
    assert label_limits.max_failed_fraction == 0.0
    assert look(videos=videos, out="", limits=limits).exit_code == 0


def test_json_holds_the_same(label_config):
    data = json.loads(json.dumps(preview_to_dict(large_job(label_config))))
    assert (data["videos"], data["frames"], data["price"]) == (1204, 249_523_200, 252.8667)
    assert data["forecast"]["speeds"][0]["frames_per_s"] == 540.0


def test_the_command_takes_the_arguments_of_label(drive, tiny_model, tmp_path, capsys):
    options = ["--model", str(tiny_model), "--no-ray", "--cpus-per-actor", "1", "--shard-frames", "12"]
    assert main(["plan", str(drive), *options, "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^speed     [\d.,]+ frames/s per actor at 72x96", text, re.MULTILINE)
    assert main(["plan", str(drive), *options, "--no-calibrate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forecast"] is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(42, "42 s"), (1080, "18 min"), (57_960, "16.1 hours"), (4_500_000, "1,250.0 hours")]
)
def test_durations_have_a_unit_that_fits(seconds, text):
    assert preview_text.duration(seconds) == text
