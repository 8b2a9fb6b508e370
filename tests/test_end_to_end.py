"""From a video file to Parquet, whole: same labels however the work is cut, resume, what a reader sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import duckdb
import numpy as np
import pytest
from PIL import Image

import gsvnet
from gsvnet.cli import main
from gsvnet.errors import OutputConflict
from gsvnet.labeling.limits import LimitsConfig
from gsvnet.labeling.ray import loop
from gsvnet.reading.pictures import read_picture
from tests.material import repeat_video
from tests.outputs import assert_equal_rows, footers_of, rows_of, shards_of

NUM_FRAMES, HEIGHT, WIDTH = 60, 72, 96


# --- the same labels however the work is cut ---


def test_labels_are_worth_comparing(undisturbed):
    seen = np.array([list(pixels.values()) for pixels in undisturbed["pixels"].to_pylist()])
    assert (seen.sum(0) > NUM_FRAMES * HEIGHT * WIDTH * 0.02).sum() >= 3  # of the classes
    assert len({mask for mask in undisturbed["mask"].to_pylist()}) == NUM_FRAMES


@pytest.mark.parametrize(
    "cut", [{"shard_frames": 5}, {"shard_frames": 25}, {"shard_frames": 20_000}, {"shard_seconds": 0.9}], ids=str
)
def test_labels_do_not_depend_on_shard_length(undisturbed, label_config, cut):
    gsvnet.label(label_config(**cut))
    assert_equal_rows(rows_of(label_config().out), undisturbed)


@pytest.mark.parametrize("num_actors", [1, 2])
def test_labels_do_not_depend_on_ray_or_on_the_number_of_actors(
    undisturbed, label_config, ray_here, num_actors, monkeypatch
):
    hand_out = loop._Driver._hand_out

    def hand_out_once_all_are_up(driver):
        if all(actor.report is not None for actor in driver.fleet.actors):
            hand_out(driver)

    monkeypatch.setattr(loop._Driver, "_hand_out", hand_out_once_all_are_up)
    report = gsvnet.label(label_config(no_ray=False, num_actors=num_actors))
    assert (report.exit_code, report.num_actors) == (0, num_actors)
    assert_equal_rows(rows_of(report.out), undisturbed)


def test_labels_of_several_threads_are_the_same_with_and_without_ray(label_config, media, ray_here, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mp4", num_frames=20)
    several = {"videos": (str(clip),), "cpus_per_actor": 2, "batch_chunks": 4}
    local = gsvnet.label(label_config(**several, out=str(tmp_path / "local")))
    on_ray = gsvnet.label(label_config(**several, out=str(tmp_path / "ray"), no_ray=False))
    assert_equal_rows(rows_of(on_ray.out), rows_of(local.out))


@pytest.mark.slow
def test_labels_of_a_network_that_reads_motion_are_the_same_with_and_without_ray(
    label_config, media, ray_here, tmp_path
):
    options = {"x264-params": "ref=1:bframes=0:keyint=12:scenecut=0"}
    clip = media.write_clip(tmp_path / "clip.mp4", num_frames=20, options=options)
    moving = {"videos": (str(clip),), "model": "tests.tiny_arseg:build_arseg", "references": "nearest"}
    local = gsvnet.label(label_config(**moving, out=str(tmp_path / "local")))
    on_ray = gsvnet.label(label_config(**moving, out=str(tmp_path / "ray"), no_ray=False))
    assert (on_ray.exit_code, on_ray.frames) == (0, 20)
    assert_equal_rows(rows_of(on_ray.out), rows_of(local.out))
    assert [footer.motion for footer in footers_of(on_ray.out)] == ["codec", "codec"]


def test_two_runs_write_the_same_bytes(label_config, tmp_path):
    outs = [gsvnet.label(label_config(out=str(tmp_path / name))).out for name in ("a", "b")]
    first, second = ([path.read_bytes() for path in shards_of(out)] for out in outs)
    assert first == second


# --- what is in the rows ---


def test_every_frame_of_the_source_has_its_row_with_its_time(undisturbed, drive):
    with av.open(str(drive)) as container:
        stream = container.streams.video[0]
        pts = [frame.pts for frame in container.decode(video=0)]
        seconds = [float(tick * stream.time_base) for tick in pts]
    assert len(pts) == NUM_FRAMES
    assert undisturbed["frame_index"].to_pylist() == list(range(NUM_FRAMES))
    assert undisturbed["pts"].to_pylist() == pts
    assert undisturbed["time_s"].to_pylist() == pytest.approx(seconds, abs=1e-9)
    assert undisturbed["keyframe_distance"].to_pylist() == [i % 5 for i in range(NUM_FRAMES)]
    assert undisturbed["is_keyframe"].to_pylist() == [i % 5 == 0 for i in range(NUM_FRAMES)]


def test_sql_over_the_files_finds_what_the_masks_show(undisturbed, label_config):
    out = gsvnet.label(label_config()).out
    labels = gsvnet.open_labels(out)
    masks = labels.labels_at("drive", range(NUM_FRAMES))
    least = int(np.median((masks == labels.classes.names.index("sign symbol")).sum((1, 2))))
    query = f"SELECT frame_index FROM '{out}/labels/**/*.parquet' WHERE pixels.sign_symbol > {least} ORDER BY 1"
    found = [index for (index,) in duckdb.sql(query).fetchall()]
    assert found == [i for i in range(NUM_FRAMES) if (masks[i] == 6).sum() > least]
    assert 0 < len(found) < NUM_FRAMES


def test_masks_of_another_size_are_stored_in_that_size(label_config):
    labels = gsvnet.open_labels(gsvnet.label(label_config(mask_size="20x30")).out)
    assert labels.labels_at("drive", [0, 59]).shape == (2, 20, 30)
    assert labels.frames.to_table(columns=["height", "width"]).slice(59).to_pylist() == [{"height": 20, "width": 30}]


def test_lost_frames_keep_their_place_without_labels(label_config, media, tmp_path):
    clip = media.write_clip(tmp_path / "damaged.mp4", options={"x264-params": "keyint=12:bframes=3"})
    data = bytearray(clip.read_bytes())
    start, length = len(data) * 4 // 10, len(data) // 8
    data[start : start + length] = np.random.default_rng(0).bytes(length)
    clip.write_bytes(data)
    report = gsvnet.label(label_config(videos=(str(clip),)))
    rows = rows_of(report.out)
    lost = [row for row in rows.to_pylist() if row["status"] == "decode_error"]
    assert 0 < len(lost) == report.frames_lost < 30
    assert all(row[name] is None for row in lost for name in ("mask", "pixels", "confidence", "codec"))
    damaged = [row for row in rows.to_pylist() if row["status"] == "damaged"]
    assert 0 < len(damaged) == report.frames_damaged < 30
    assert all(row[name] is not None for row in damaged for name in ("mask", "pixels", "confidence", "codec"))
    assert rows["frame_index"].to_pylist() == list(range(NUM_FRAMES))
    picture = read_picture(gsvnet.open_labels(report.out), "damaged", NUM_FRAMES - 2)
    assert media.read_number(picture.image) == NUM_FRAMES - 2  # after the damage, time and picture still agree


def test_show_writes_a_picture_of_the_frame(label_config, tmp_path, capsys):
    config = label_config()
    gsvnet.label(config)
    png = tmp_path / "overlay.png"
    assert main(["show", config.out, "--frame", "7", "--png", str(png)]) == 0
    with Image.open(png) as picture:
        assert (picture.format, picture.size) == ("PNG", (WIDTH, HEIGHT))
        assert len(picture.getcolors(HEIGHT * WIDTH) or ()) > 20
    assert "frame 7 at 0.467 s, 2 from its keyframe" in capsys.readouterr().out


# --- resume ---


def test_a_rerun_does_only_what_is_missing(undisturbed, label_config):
    config = label_config()
    gsvnet.label(config)
    gone, *kept = shards_of(config.out)[::-1]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in kept}
    gone.unlink()
    report = gsvnet.label(config)
    assert (report.shards_labeled, report.shards_skipped) == (1, len(kept))
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in kept} == before
    assert_equal_rows(rows_of(config.out), undisturbed)
    assert gsvnet.label(config).shards_labeled == 0


def test_another_configuration_is_refused_naming_each_flag_that_differs(label_config):
    gsvnet.label(label_config())
    with pytest.raises(OutputConflict) as refused:
        gsvnet.label(label_config(keyframe_interval=4, mask_size="36x48", cpus_per_actor=2))
    message = str(refused.value)
    assert "--keyframe-interval: 5 in the output, 4 now" in message
    assert "--mask-size: full in the output, 36x48 now" in message
    assert "--cpus-per-actor: 1 in the output, 2 now" in message
    assert "--batch-chunks" not in message


def test_what_does_not_decide_about_labels_may_change_between_runs(label_config, tmp_path):
    gsvnet.label(label_config())
    limits = LimitsConfig(max_attempts=7, shard_timeout_s=9.0)
    report = gsvnet.label(label_config(limits=limits, spool_dir=str(tmp_path / "elsewhere")))
    assert (report.exit_code, report.shards_labeled) == (0, 0)


def test_videos_may_be_added_to_an_output(undisturbed, label_config, media, tmp_path):
    gsvnet.label(label_config())
    other = media.write_clip(tmp_path / "other.mkv", num_frames=12)
    report = gsvnet.label(label_config(videos=(str(other),)))
    assert report.frames == 12
    assert (Path(report.out) / "_SUCCESS").exists()
    rows = rows_of(report.out)
    assert_equal_rows(
        rows.filter(np.array([name.startswith("drive") for name in rows["video"].to_pylist()])), undisturbed
    )


def test_success_waits_for_videos_of_earlier_runs(label_config, media, tmp_path):
    config = label_config()
    gsvnet.label(config)
    gone = shards_of(config.out)[2]
    gone.unlink()
    other = media.write_clip(tmp_path / "other.mkv", num_frames=12)
    assert gsvnet.label(label_config(videos=(str(other),))).exit_code == 0
    assert not (Path(config.out) / "_SUCCESS").exists()
    assert gsvnet.label(config).exit_code == 0
    assert (Path(config.out) / "_SUCCESS").exists()


def test_a_source_that_changed_since_it_was_planned_is_a_recorded_failure(label_config, media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mkv", num_frames=12)
    config = label_config(videos=(str(clip),))
    gsvnet.label(config)
    media.write_clip(clip, num_frames=15)
    report = gsvnet.label(config)
    assert report.exit_code == 3
    [record] = [json.loads(path.read_text()) for path in Path(config.out).glob("_failed/*/*.json")]
    assert (record["error"], record["uri"], record["shard"]) == ("SourceChanged", str(clip), None)
    assert "use another output" in record["message"]
    assert not (Path(config.out) / "_SUCCESS").exists()


# --- stores ---


@pytest.mark.s3
def test_videos_and_labels_on_s3_are_those_on_disk(undisturbed, label_config, drive, monkeypatch):
    moto_server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {"key": "k", "secret": "s", "endpoint_url": f"http://{host}:{port}"}
        store = s3fs.S3FileSystem(**options)
        for bucket in ("videos", "labels"):
            store.makedirs(bucket, exist_ok=True)
        store.pipe("videos/drive.mp4", drive.read_bytes())
        config = label_config(
            videos=("s3://videos/*.mp4",), out="s3://labels/out", storage_options=options, video_options=options
        )
        report = gsvnet.label(config)
        assert (report.exit_code, report.shards_labeled, gsvnet.label(config).shards_labeled) == (0, 7, 0)
        rows = gsvnet.open_labels(report.out, options).frames.to_table().sort_by("frame_index")
        assert set(rows["uri"].to_pylist()) == {"s3://videos/drive.mp4"}
        assert_equal_rows(rows.drop(["video", "uri"]), undisturbed.drop(["video", "uri"]))
        assert store.exists("labels/out/_SUCCESS")
    finally:
        server.stop()


# --- memory ---

MEASURE = """
import sys
from pathlib import Path
import gsvnet
video, out, model = sys.argv[1:]
config = gsvnet.LabelConfig(videos=(video,), out=out, model=model, batch_chunks=2, cpus_per_actor=1, no_ray=True)
frames = gsvnet.label(config).frames
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(frames, int(peak.split()[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_depend_on_the_length_of_a_video(drive, tiny_model, tmp_path):
    peaks = {}
    for repeats in (10, 100):
        video = repeat_video(drive, repeats, tmp_path / f"{repeats}.mkv")
        command = [sys.executable, "-c", MEASURE, video, tmp_path / f"out{repeats}", tiny_model]
        frames, peak = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
        assert frames == repeats * NUM_FRAMES
        peaks[repeats] = peak
    assert peaks[100] < 1.15 * peaks[10]
