"""Which frames are listed for review, and what of them is written."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import duckdb
import numpy as np
import pytest

from gsvnet.cli import main
from gsvnet.errors import ConfigError
from gsvnet.store.read import open_labels
from gsvnet.viewing.candidates import Candidate
from gsvnet.viewing.commands import review
from gsvnet.viewing.config import ReviewConfig
from gsvnet.viewing.review import choose_for_review, spread
from tests.viewing.conftest import drifted

DRIVE, NIGHT = "drive-0123456789ab", "night-ba9876543210"


def chosen_of(out: str, *, budget: int = 100, min_gap_s: float = 1.0, **options):
    return choose_for_review(open_labels(out), budget=budget, min_gap_s=min_gap_s, **options).frames


def candidate(video: str, time_s: float, score: float) -> Candidate:
    return Candidate(
        video=video, frame_index=round(10 * time_s), time_s=time_s, score=score, reason="drift", lost_frames=0
    )


def test_a_drifted_chunk_is_shown_by_its_frame_farthest_from_keyframes(output):
    output.write(num_frames=60, change=drifted(25))
    (frame,) = chosen_of(output.out, budget=1)
    assert (frame.frame_index, frame.reason, frame.drift_agreement) == (29, "drift", 0.5)


def test_each_reason_s_worst_frame_comes_first(output):
    def change(row):
        row = drifted(10)(row)
        if row.status != "ok":
            return row
        unsure = np.full(len(row.pixels), 0.8)
        unsure[8] = 0.2 if row.frame_index == 52 else 0.8  # a car that covers enough
        low = {31: {"confidence": 0.1}, 73: {"confidence_p05": 0.1}}.get(row.frame_index, {})
        return replace(row, class_confidence=unsure, **low)

    output.write(num_frames=120, lost=[93, 94], change=change)
    frames = chosen_of(output.out, budget=5)
    assert {frame.reason: frame.frame_index for frame in frames} == {
        "drift": 14, "confidence": 31, "class": 52, "confidence_p05": 73, "lost": 95,
    }  # fmt: skip
    (unsure,) = [frame for frame in frames if frame.reason == "class"]
    assert (unsure.unsure_class, unsure.class_confidence) == ("car", pytest.approx(0.2))
    assert [frame.lost_frames for frame in frames if frame.reason == "lost"] == [2]


def test_a_class_that_covers_little_is_no_reason(output):
    def change(row):
        unsure = np.full(len(row.pixels), 0.8)
        unsure[8] = 0.1 if row.frame_index == 1 else 0.8  # a car one pixel wide
        return replace(row, class_confidence=unsure)

    output.write(num_frames=10, change=change)
    assert "class" not in {frame.reason for frame in chosen_of(output.out, min_gap_s=0.2)}


def test_frames_without_class_confidence_are_not_unsure_of_a_class(output):
    output.write(num_frames=20, change=drifted())
    output.write(NIGHT, num_frames=20)  # as an earlier version would have
    assert {frame.reason for frame in chosen_of(output.out) if frame.video == NIGHT} == {"confidence"}


def test_a_gap_is_kept_by_frames_that_are_just_as_far_apart():
    times = [0.9, 1.9, 2.9]  # whose differences are less than 1 by rounding
    assert len(spread([candidate("a", time_s, 0.5) for time_s in times], 9, 1.0)) == 3


def test_frames_are_apart_in_each_video_and_everything_repeats(output):
    output.write(num_frames=100, change=drifted(10, 20, 45))
    output.write("night-ba9876543210", num_frames=100, change=drifted(50))
    frames = chosen_of(output.out, min_gap_s=0.7)
    for video in (DRIVE, NIGHT):
        times = sorted(frame.time_s for frame in frames if frame.video == video)
        assert len(times) > 8
        assert min(np.diff(times)) >= 0.7 - 1e-9
    assert chosen_of(output.out, min_gap_s=0.7) == frames


def test_one_bad_video_does_not_take_the_others_share(output):
    output.write(num_frames=100, change=drifted(*range(0, 100, 5), agreement=0.1))
    output.write("night-ba9876543210", num_frames=100, change=drifted())
    videos = [frame.video for frame in chosen_of(output.out, budget=10)]
    assert (videos.count(DRIVE), videos.count(NIGHT)) == (5, 5)


def test_a_share_that_a_video_cannot_use_goes_on():
    long = [candidate("long", float(i), 1 / (i + 1)) for i in range(10)]
    chosen = spread([*long, candidate("short", 0.0, 0.01)], 6, 1.0)
    assert [each.video for each in chosen].count("long") == 5


def test_a_round_that_does_not_fit_gives_its_highest_scores():
    chosen = spread([candidate(name, 0.0, score) for name, score in zip("abc", (0.2, 0.9, 0.5))], 2, 1.0)
    assert [each.video for each in chosen] == ["b", "c"]


def test_without_drift_it_goes_by_confidence_and_says_so(output, make_console):
    output.write(num_frames=60, change=lambda row: replace(row, confidence=0.2) if row.frame_index == 33 else row)
    console = make_console()
    assert review(ReviewConfig(out=output.out, budget=1), console) == 0
    said = console.file.getvalue()
    assert "no drift was measured in these labels" in said
    assert f"{DRIVE}  0:03.3     33  confidence  0.20" in said


def test_only_chosen_videos_are_looked_at(output):
    output.write()
    output.write("night-ba9876543210")
    assert {frame.video for frame in chosen_of(output.out, videos=("night",))} == {NIGHT}


def test_lost_frames_alone_give_nothing_to_check(output, make_console):
    output.write(num_frames=5, lost=range(5))
    assert review(ReviewConfig(out=output.out), make_console()) == 0
    assert chosen_of(output.out) == ()


def test_an_output_without_labels_is_said(output):
    with pytest.raises(ConfigError, match="holds no labels yet"):
        chosen_of(output.out)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_written_list_joins_with_the_labels_and_is_exported(output, tmp_path, suffix, capsys):
    output.write(num_frames=60, change=drifted(25))
    listed = str(tmp_path / f"review.{suffix}")
    assert main(["review", output.out, "--budget", "3", "--min-gap-seconds", "1", "--write", listed]) == 0
    joined = duckdb.sql(
        f"select frame_index, reason, f.pixels.car from '{listed}' join '{output.out}/labels/*/*.parquet' f "
        "using (video, frame_index) order by score desc"
    ).fetchall()
    assert (len(joined), joined[0][:2]) == (3, (29, "drift"))
    assert main(["export", "png", output.out, "--to", str(tmp_path / "png"), "--frames-from", listed]) == 0
    exported = sorted(int(path.stem.rpartition("-")[2]) for path in (tmp_path / "png" / "masks").iterdir())
    assert exported == sorted(row[0] for row in joined)


def test_json_is_for_scripts(output, capsys):
    output.write(num_frames=60, change=drifted(25))
    assert main(["review", output.out, "--budget", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["reasons"], told["chosen"][0]["frame_index"]) == ({"drift": 1}, 29)


def test_the_pages_show_each_frame(output, tmp_path, make_console):
    output.write(num_frames=60, change=drifted(25))
    page = tmp_path / "pages.html"
    assert review(ReviewConfig(out=output.out, budget=2, min_gap_seconds=1, pages=str(page)), make_console()) == 0
    html = page.read_text()
    assert html.count("data:image/jpeg") == 2
    assert f"#{DRIVE}/29" in html
    assert "labels alone, as the source could not be read" in html


def test_a_page_says_which_pictures_it_has_no_room_for(output, tmp_path, make_console, monkeypatch):
    monkeypatch.setattr("gsvnet.viewing.review_page._PICTURES_BYTES", 1)
    output.write(num_frames=20)
    page = tmp_path / "pages.html"
    review(ReviewConfig(out=output.out, budget=2, min_gap_seconds=1, pages=str(page)), make_console())
    html = page.read_text()
    assert "2 pictures left out" in html
    assert "<img" not in html


def test_a_file_that_is_there_is_kept(output, tmp_path, make_console):
    output.write()
    listed = tmp_path / "list.csv"
    listed.write_text("mine")
    config = ReviewConfig(out=output.out, write=str(listed))
    with pytest.raises(ConfigError, match=r"list\.csv exists; --overwrite replaces it"):
        review(config, make_console())
    assert listed.read_text() == "mine"
    assert review(replace(config, overwrite=True), make_console()) == 0
    assert next(csv.DictReader(listed.open()))["video"] == DRIVE


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"budget": 0}, "--budget 0"),
        ({"min_gap_seconds": 0.0}, "--min-gap-seconds 0"),
        ({"write": "x.txt"}, "x.txt"),
        ({"write": "x.csv", "pages": "x.csv"}, "two files"),
    ],
)
def test_bad_arguments_are_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        ReviewConfig(out="o", **options)
