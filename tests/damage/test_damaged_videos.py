"""A sample of the damaged videos, each read in a process of its own; `python -m tests.damage` reads all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from tests.damage.catalogue import Catalogue
from tests.damage.look import Look
from tests.damage.verdict import MOST_MIB, judge

SAMPLE = (
    "b_frames_mp4/flip_few/0", "hevc_mp4/flip_many/0", "b_frames_ts/flip_few/1", "vp9_webm/flip_few/0",
    "mpeg4_avi/flip_few/1", "mpeg4_avi/hole/0", "faststart_mp4/cut_in_middle/6", "b_frames_ts/cut_in_middle/2",
    "b_frames_mkv/cut_at_border/9", "fragmented_mp4/cut_in_middle/3", "fragmented_mp4/without_frames/1",
    "mjpeg_mov/overwrite/0", "one_i_frame_mp4/hole/1", "hevc_ts/without_frames/1", "b_frames_mkv/insert_garbage/1",
    "open_gop_mkv/without_frames/0", "intra_refresh_ts/overwrite/1", "b_frames_ts/glue_twice/0",
    "b_frames_mp4/lie/stsz_billions_of_no_byte", "b_frames_mp4/lie/picture_100000_later",
    "b_frames_mp4/lie/nested_moov", "fragmented_mp4/lie/tfra_to_itself", "b_frames_ts/lie/times_all_the_same",
    "b_frames_mkv/lie/timescale_zero", "mpeg4_avi/lie/index_to_itself",
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What was found of the sample, by name. The processes are forked from one that runs no threads yet."""
    path = tmp_path_factory.mktemp("damage") / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.damage", "--json", str(path), "--names", *SAMPLE],
        capture_output=True,
        text=True,
    )
    assert path.exists(), done.stderr
    return {line["name"]: line for line in map(json.loads, path.read_text().splitlines())}


def test_no_promise_is_broken(found):
    assert list(found) == list(SAMPLE)
    assert {name: line["broken"] for name, line in found.items() if line["broken"]} == {}


def test_the_sample_holds_every_outcome(found):
    sums = sum((Counter(line["counts"]) for line in found.values()), Counter())
    assert all(sums[name] > 0 for name in ("missing", "lost", "damaged", "right", "silent"))
    assert 3 <= sum(bool(line["refused"]) for line in found.values()) <= 12


def test_frames_of_an_avi_file_stay_where_they_are_behind_one_that_is_hidden(found):
    assert [found[f"mpeg4_avi/{name}"]["counts"].get("wrong", 0) for name in ("flip_few/1", "hole/0")] == [0, 0]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A damaged video, and a look at its sound clip."""
    video = Catalogue(tmp_path_factory.mktemp("clips")).make("b_frames_mp4/flip_few/0")
    sound = {pts: ("ok", number, f"{number}") for number, pts in enumerate(sorted(video.clip.all_pts))}
    return video, Look(frames=dict(sound), in_pieces=dict(sound), num_frames=len(sound))


def test_some_frames_hang_on_the_damage_and_some_do_not(damaged):
    video, _ = damaged
    assert 0 < len(video.inside) < len(video.clip.all_pts)


def test_another_picture_outside_the_damage_breaks_a_promise_and_inside_is_counted(damaged):
    video, sound = damaged
    for pts in video.clip.all_pts:
        frames = sound.frames | {pts: ("ok", 99, "other")}
        verdict = judge(video, replace(sound, frames=frames, in_pieces=frames), sound.frames)
        assert bool(verdict.broken) == (pts not in video.inside)
        assert verdict.counts["wrong"] == 1


def test_pieces_that_show_another_picture_than_one_go_break_a_promise(damaged):
    video, sound = damaged
    pts = min(video.clip.all_pts - video.inside)
    pieces = sound.in_pieces | {pts: ("ok", 0, "other")}
    assert judge(video, replace(sound, in_pieces=pieces), sound.frames).broken


@pytest.mark.parametrize("changes", [{"crash": "killed by SIGSEGV"}, {"peak_mib": MOST_MIB + 1}], ids=str)
def test_a_dead_process_and_one_that_took_too_much_memory_break_a_promise(damaged, changes):
    video, sound = damaged
    assert judge(video, replace(sound, **changes), sound.frames).broken


@pytest.mark.slow
def test_a_job_labels_what_can_be_read_and_records_the_rest(tmp_path):
    from tests.damage.job import run_job

    names = [name for number, name in enumerate(Catalogue(tmp_path).names()) if number % 40 == 0]
    findings = run_job(tmp_path / "job", names)
    assert findings.problems == ()
    assert findings.actors_lost == 0
    assert findings.compared > 100
    assert findings.num_failed >= 5
