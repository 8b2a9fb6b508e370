"""From a video file to Parquet, whole: same labels however the work is cut, resume, kill -9, what a reader sees."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import av
import duckdb
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

import gsvnet
from gsvnet.cli import main
from gsvnet.errors import OutputConflict
from gsvnet.labeling.limits import LimitsConfig
from gsvnet.labeling.ray.cluster import connect
from gsvnet.reading import read_picture

NUM_FRAMES, HEIGHT, WIDTH = 60, 72, 96


@pytest.fixture(scope="module")
def ray_here():
    """A local Ray with room for two actors, which every `label` below joins."""
    with connect(min_cpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(drive, tiny_model, tmp_path_factory):
    """All rows as an undisturbed run in one process labels them, twelve frames a shard."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    config = gsvnet.LabelConfig(
        videos=(str(drive),),
        out=str(out),
        model=str(tiny_model),
        shard_frames=12,
        batch_chunks=2,
        cpus_per_actor=1,
        no_ray=True,
    )
    assert gsvnet.label(config).exit_code == 0
    return rows_of(out)


def rows_of(out):
    """All rows of an output, every column, in frame order."""
    frames = gsvnet.open_labels(str(out)).frames.to_table()
    return frames.sort_by([("video", "ascending"), ("frame_index", "ascending")])


def shards_of(out):
    return sorted(Path(out).glob("labels/*/*.parquet"))


def assert_equal_rows(found, expected):
    differing = [name for name in expected.column_names if found[name].to_pylist() != expected[name].to_pylist()]
    assert differing == []


def wait_until(condition, *, limit_s=60.0):
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


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
def test_labels_do_not_depend_on_ray_or_on_the_number_of_actors(undisturbed, label_config, ray_here, num_actors):
    report = gsvnet.label(label_config(no_ray=False, num_actors=num_actors))
    assert (report.exit_code, report.num_actors) == (0, num_actors)
    assert_equal_rows(rows_of(report.out), undisturbed)


def test_labels_of_several_threads_are_the_same_with_and_without_ray(label_config, media, ray_here, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mp4", num_frames=20)
    several = {"videos": (str(clip),), "cpus_per_actor": 2, "batch_chunks": 4}
    local = gsvnet.label(label_config(**several, out=str(tmp_path / "local")))
    on_ray = gsvnet.label(label_config(**several, out=str(tmp_path / "ray"), no_ray=False))
    assert_equal_rows(rows_of(on_ray.out), rows_of(local.out))


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


# --- kill -9 ---


class Visible:
    """Checks each label file the moment it appears: it must be whole."""

    def __init__(self, out):
        self.out, self.seen = Path(out), set()

    def look(self):
        for path in set(shards_of(self.out)) - self.seen:
            assert pq.read_table(path).num_rows == pq.ParquetFile(path).metadata.num_rows > 0
            self.seen.add(path)
        return len(self.seen)


def test_killing_the_driver_loses_nothing_but_time(undisturbed, label_config, ray_here):
    config = label_config(no_ray=False, num_actors=1)
    visible = Visible(config.out)
    with Driver(config) as driver:
        wait_until(lambda: visible.look() >= 1 or driver.process.poll() is not None)
        driver.kill()
        num_before = visible.look()
    assert 1 <= num_before < 7
    assert not (Path(config.out) / "_SUCCESS").exists()
    report = gsvnet.label(config)
    assert (report.exit_code, report.shards_in_output) == (0, 7)
    visible.look()
    assert_equal_rows(rows_of(config.out), undisturbed)
    assert [path for path in Path(config.out).rglob(".*")] == []  # what the dead writer left is swept


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_finishes_its_shard_and_goes_on_later(undisturbed, label_config, ray_here):
    config = label_config(no_ray=False, num_actors=1)
    visible = Visible(config.out)
    with Driver(config) as driver:
        wait_until(lambda: visible.look() >= 1 or driver.process.poll() is not None)
        driver.process.terminate()
        assert driver.process.wait(timeout=60) == 1
    stored = json.loads((Path(config.out) / "_report.json").read_text())
    assert (stored["stopped"], stored["exit_code"]) == (True, 1)
    assert 1 <= visible.look() < 7
    assert not (Path(config.out) / "_SUCCESS").exists()
    assert gsvnet.label(config).exit_code == 0
    assert_equal_rows(rows_of(config.out), undisturbed)


def test_ctrl_c_ends_a_job_in_this_process_at_once(drive, tiny_model, tmp_path):
    video, spool, out = repeat(drive, 50, tmp_path / "long.mkv"), tmp_path / "spool", tmp_path / "out"
    command = [sys.executable, "-m", "gsvnet.cli", "label", video, "--out", out, "--model", tiny_model, "--no-ray"]
    job = subprocess.Popen(
        [*command, "--cpus-per-actor", "1", "--shard-seconds", "999", "--spool-dir", spool],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    wait_until(lambda: list(spool.glob(".gsvnet-*")) or job.poll() is not None)
    pressed_s = time.monotonic()
    job.send_signal(signal.SIGINT)
    _, complaint = job.communicate(timeout=60)
    assert (job.returncode, complaint) == (1, "gsvnet: interrupted; the same command goes on where it stopped\n")
    assert time.monotonic() - pressed_s < 10  # the whole shard takes far longer
    assert list(spool.iterdir()) == shards_of(out) == []


class Driver:
    """`gsvnet label` with a Ray of its own, in a process of its own."""

    def __init__(self, config):
        self.folder = tempfile.mkdtemp(prefix="gsv-", dir="/tmp")
        flags = {
            "--out": config.out,
            "--model": config.model,
            "--num-actors": "1",
            "--cpus-per-actor": str(config.cpus_per_actor),
            "--batch-chunks": str(config.batch_chunks),
            "--shard-frames": str(config.shard_frames),
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gsvnet.cli", "label", *config.videos, *(w for flag in flags.items() for w in flag)],
            env=clean | {"RAY_TMPDIR": self.folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.family, self.agents = [], []

    def __enter__(self):
        return self

    def kill(self):
        """SIGKILL to the driver alone; its Ray has to notice by itself."""
        self.process.send_signal(signal.SIGSTOP)  # it hands out nothing more while its family is counted
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.agents = [p for p in family if p.name().endswith("Agent")]
        self.family = [p for p in family if p not in self.agents]
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        _, alive = psutil.wait_procs(self.family, timeout=30)
        for agent in self.agents:  # Ray's own would notice after a minute that their cluster is gone
            agent.kill()
        psutil.wait_procs(self.agents, timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert alive == []


def test_killing_an_actor_costs_one_attempt(undisturbed, label_config, ray_here):
    config = label_config(no_ray=False, num_actors=1, shard_frames=5)
    visible = Visible(config.out)
    others = set(actor_processes())
    reports = []
    job = threading.Thread(target=lambda: reports.append(gsvnet.label(config)))
    job.start()
    wait_until(lambda: set(actor_processes()) - others or not job.is_alive())
    [actor] = set(actor_processes()) - others
    wait_until(lambda: visible.look() >= 1 or not job.is_alive())
    actor.kill()
    num_before = visible.look()
    job.join(timeout=120)
    assert 1 <= num_before < 12
    assert (reports[0].exit_code, reports[0].shards_labeled) == (0, 12)
    visible.look()
    assert_equal_rows(rows_of(config.out), undisturbed)


def actor_processes():
    """The ShardActor processes below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ShardActor"):
                found.append(process)
        except psutil.Error:
            pass
    return found


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
        video = repeat(drive, repeats, tmp_path / f"{repeats}.mkv")
        command = [sys.executable, "-c", MEASURE, video, tmp_path / f"out{repeats}", tiny_model]
        frames, peak = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
        assert frames == repeats * NUM_FRAMES
        peaks[repeats] = peak
    assert peaks[100] < 1.15 * peaks[10]


def repeat(video, times, path):
    """The packets of a video again and again, without encoding anew."""
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(stream) if p.size]
        length = int(NUM_FRAMES / stream.average_rate / stream.time_base)
        with av.open(str(path), "w") as sink:
            copy = sink.add_stream_from_template(stream)
            for number in range(times):
                for data, pts, dts, is_keyframe in packets:
                    packet = av.Packet(data)
                    packet.pts, packet.dts = pts + number * length, dts + number * length
                    packet.stream, packet.time_base, packet.is_keyframe = copy, stream.time_base, is_keyframe
                    sink.mux(packet)
    return path
