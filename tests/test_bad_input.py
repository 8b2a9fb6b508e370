"""Whatever is wrong with a command: one clear line, the right exit code, the rest goes on, nothing half-written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import av
import pytest

from gsvnet.cli import main
from tests.outputs import failures


def make_empty(path, media):
    path.write_bytes(b"")


def make_text(path, media):
    path.write_text("not a video at all\n" * 100)


def make_audio(path, media):
    media.write_audio(path)


def make_cut_short(path, media):
    clip = media.write_clip(path)
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])  # an MP4's tables stand at its end


def make_without_frames(path, media):
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        container.start_encoding()


def make_folder(path, media):
    path.mkdir()
    (path / "notes.txt").write_text("no video")


BAD_VIDEOS = {
    "missing.mp4": (lambda path, media: None, "nothing there; check the spelling"),
    "empty.mp4": (make_empty, "the file is empty; copy or record it again"),
    "text.mp4": (make_text, "not a readable video container"),
    "audio.m4a": (make_audio, "no video stream: audio"),
    "cut.mp4": (make_cut_short, "it may be cut short"),
    "no_frames.avi": (make_without_frames, "no frame can be decoded; record or copy it again"),
}


@pytest.mark.parametrize("name", BAD_VIDEOS)
def test_a_bad_video_is_one_line_and_the_others_go_on(gsvnet_label, good, media, tmp_path, name):
    make, reason = BAD_VIDEOS[name]
    make(tmp_path / name, media)
    code, printed, complaint = gsvnet_label(name, good)
    [line] = [line for line in printed.splitlines() if line.startswith("failed") and "listed in" not in line]
    assert (code, complaint) == (3, "")
    assert name in line
    assert reason in line
    assert "frames   60" in printed
    assert "failed   1, listed in out/_failed" in printed
    [record] = failures()
    assert (record["uri"], record["shard"]) == (str(tmp_path / name), None)
    assert record["message"] in line
    assert not Path("out/_SUCCESS").exists()


def test_a_video_whose_end_is_missing_is_labeled_as_far_as_it_goes_and_says_so(gsvnet_label, media, tmp_path):
    clip = media.write_clip(tmp_path / "short.mp4", container_options={"movflags": "faststart"})
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    code, printed, _ = gsvnet_label("short.mp4")
    assert code == 0
    assert "note short.mp4: the header declares 60 frames" in printed
    assert "cut short?" in printed


def test_only_bad_videos_are_a_complete_job_with_failures(gsvnet_label):
    code, printed, _ = gsvnet_label("a.mp4", "b.mp4")
    assert code == 3
    assert "failed   2, listed in out/_failed" in printed


def test_a_video_that_vanishes_after_it_was_planned_fails_and_is_labeled_when_it_is_back(gsvnet_label, good, tmp_path):
    assert gsvnet_label(good)[0] == 0
    for path in sorted(tmp_path.glob("out/labels/*/*"))[3:]:
        path.unlink()
    hidden = (tmp_path / good).rename(tmp_path / "hidden.mp4")
    assert gsvnet_label(good)[0] == 3
    hidden.rename(tmp_path / good)
    code, printed, _ = gsvnet_label(good)
    assert (code, "3 were there already" in printed) == (0, True)


@pytest.mark.parametrize(
    "name", ["a [1].mp4", "[red]a.mp4", "[bold].mp4", "[1].mp4", "häßlich ü.mp4", "100%03d.mp4", "a'b\"c.mp4"]
)
def test_odd_file_names_are_taken_and_shown_as_they_are(gsvnet_label, drive, tmp_path, name):
    (tmp_path / name).symlink_to(drive)
    (tmp_path / f"x{name}").write_bytes(b"")
    code, printed, complaint = gsvnet_label(name, f"x{name}", "--shard-seconds", "99", out="out[red]")
    assert (code, complaint) == (3, "")
    assert f"failed x{name}: the file is empty" in printed
    assert "output   out[red]" in printed


def test_an_address_without_a_store_names_the_address_and_hides_the_password(gsvnet_label):
    code, printed, _ = gsvnet_label("nosuch://user:hush@host/a.mp4?token=hush")
    assert code == 3
    assert "failed nosuch://host/a.mp4: cannot be read" in printed
    assert "hush" not in printed
    assert all("hush" not in path.read_text() for path in Path("out").rglob("*.json"))


def test_missing_objects_of_a_store_are_failures_like_missing_files(gsvnet_label, good):
    code, printed, _ = gsvnet_label("memory://no/such.mp4", good)
    assert code == 3
    assert "failed memory://no/such.mp4: nothing there" in printed


@pytest.mark.s3
def test_a_missing_bucket_is_one_line_for_videos_and_for_the_output(gsvnet_label, good, monkeypatch):
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in (("KEY_ID", "k"), ("KEY", "s")):
            monkeypatch.setenv(f"AWS_{'ACCESS_KEY_ID' if name == 'KEY_ID' else 'SECRET_ACCESS_KEY'}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        code, printed, _ = gsvnet_label("s3://no-such-bucket/a.mp4", good)
        assert code == 3
        assert "failed s3://no-such-bucket/a.mp4: nothing there; check the spelling and, for a bucket" in printed
        code, _, complaint = gsvnet_label(good, out="s3://no-such-bucket/out")
        assert code == 2
        assert complaint.startswith("gsvnet: the output s3://no-such-bucket/out cannot be used: ")
        assert complaint.count("\n") == 1
    finally:
        server.stop()


# --- arguments: exit code 2, before anything is written ---


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["zz*.mp4"], "gsvnet: zz*.mp4: no video there; files with these suffixes count: "),
        (["folder"], "gsvnet: folder: no video there; "),
        (["@empty.txt"], "gsvnet: the list empty.txt names no video"),
        (["@missing.txt"], "gsvnet: cannot read the list missing.txt: "),
        (["a.mp4", "--mask-size", "0x8"], "gsvnet: --mask-size 0x8: must be full or HEIGHTxWIDTH, such as 360x480"),
        (["a.mp4", "--mask-size", "big"], "gsvnet: --mask-size big: must be full or HEIGHTxWIDTH"),
        (["a.mp4", "--keyframe-interval", "0"], "gsvnet: --keyframe-interval 0: at least 1"),
        (["a.mp4", "--num-actors", "-1"], "gsvnet: --num-actors -1: at least 1"),
        (["a.mp4", "--shard-seconds", "nan"], "gsvnet: --shard-seconds nan: must be positive"),
        (["a.mp4", "--shard-seconds", "inf"], "gsvnet: --shard-seconds inf: must be positive and finite"),
        ([], "gsvnet: no input; name at least one video"),
        (["a.mp4", "--demo"], "gsvnet: --demo labels its own drawn video"),
    ],
    ids=str,
)
def test_bad_arguments_are_one_line_and_nothing_is_written(gsvnet_label, tmp_path, arguments, complaint):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    code, printed, said = gsvnet_label(*arguments)
    assert (code, printed) == (2, "")
    assert said.startswith(complaint)
    assert said.count("\n") == 1
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("nope", "gsvnet: unknown model 'nope'. Give a name (default), the path of a .safetensors checkpoint, or"),
        ("gsvnet-swiftnet", "gsvnet: unknown model 'gsvnet-swiftnet'. gsvnet-swiftnet is a family"),
        ("no_such_module:make", "gsvnet: cannot import model factory 'no_such_module:make'"),
        ("json:nope", "gsvnet: cannot import model factory 'json:nope'"),
        ("collections:OrderedDict", "gsvnet: collections:OrderedDict returned OrderedDict, which is no VideoSegmenter"),
        ("text.safetensors", "gsvnet: text.safetensors is no safetensors file"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line(gsvnet_label, good, tmp_path, model, complaint):
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    code, printed, said = gsvnet_label(good, model=model)
    assert (code, printed) == (2, "")
    assert said.startswith(complaint)
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_a_model_with_other_classes_is_refused_for_an_existing_output(gsvnet_label, good, monkeypatch, tmp_path):
    assert gsvnet_label(good)[0] == 0
    module = f"three_{os.getpid()}"
    (tmp_path / f"{module}.py").write_text(
        "import torch\n"
        "from gsvnet import ClassSet, PerFrame\n"
        "from gsvnet.models.segmenter import Normalise\n"
        "def make():\n"
        "    classes = ClassSet(name='three', names=('a', 'b', 'c'), colours=((0, 0, 0),) * 3)\n"
        "    normalise = Normalise(mean=(0.5,) * 3, std=(0.5,) * 3)\n"
        "    return PerFrame(torch.nn.Conv2d(3, 3, 1), classes=classes, normalise=normalise)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    code, _, said = gsvnet_label(good, model=f"{module}:make")
    assert code == 2
    assert "--model (its classes): camvid (11 classes) in the output, three (3 classes) now" in said
    assert said.count("\n") == 1
    assert gsvnet_label(good, model=f"{module}:make", out="other")[0] == 0  # on its own output any classes will do


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--gpus-per-actor", "1.5"], "gsvnet: --gpus-per-actor is 1.5; above 1 only whole numbers are allowed"),
        (["--device", "cuda", "--gpus-per-actor", "0"], "gsvnet: --device cuda with --gpus-per-actor 0: "),
    ],
    ids=str,
)
def test_what_no_cluster_could_do_is_refused_before_anything_is_written(
    good, tiny_model, tmp_path, monkeypatch, capsys, arguments, complaint
):
    monkeypatch.chdir(tmp_path)
    assert main(["label", good, "--out", "out", "--model", str(tiny_model), *arguments]) == 2
    assert capsys.readouterr().err.startswith(complaint)
    assert not Path("out").exists()


# --- the output and the spool ---


def test_an_output_below_a_file_is_refused(gsvnet_label, good):
    code, printed, said = gsvnet_label(good, out="good.mp4/out")
    assert (code, printed) == (2, "")
    assert said.startswith("gsvnet: the output good.mp4/out cannot be used: ")
    assert said.count("\n") == 1


def test_a_folder_with_labels_but_without_their_record_is_refused(gsvnet_label, good):
    assert gsvnet_label(good)[0] == 0
    Path("out/_job.json").unlink()
    code, _, said = gsvnet_label(good)
    assert (code, said) == (2, "gsvnet: out has labels but no _job.json: restore it, or choose another --out\n")


def test_a_spool_folder_below_a_file_is_refused(gsvnet_label, good):
    code, _, said = gsvnet_label(good, "--spool-dir", "good.mp4/spool")
    assert code == 2
    assert said == "gsvnet: cannot make the spool folder good.mp4/spool: Not a directory; choose another --spool-dir\n"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB; only root can mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_spool_disk_without_room_stops_the_job_before_a_shard_begins(gsvnet_label, good, small_disk):
    (small_disk / "filler").write_bytes(bytes(2**19))
    code, _, said = gsvnet_label(good, "--spool-dir", small_disk)
    assert code == 1
    assert said.startswith(f"gsvnet: {small_disk} has 0.5 MiB free, a shard may need 1.0 MiB: free some, or choose")
    assert said.count("\n") == 1
    assert list(Path("out").glob("labels/*/*")) == []


def test_an_output_disk_that_is_full_stops_the_job_and_leaves_whole_shards_only(gsvnet_label, good, small_disk):
    (small_disk / "filler").write_bytes(bytes(2**20 - 10 * 4096))
    code, _, said = gsvnet_label(good, out=small_disk / "out")
    assert code == 1
    assert said.startswith(f"gsvnet: no space left to write {small_disk}/out/labels/")
    assert said.count("\n") == 1
    (small_disk / "filler").unlink()
    code, printed, _ = gsvnet_label(good, out=small_disk / "out")
    assert (code, "were there already" in printed) == (0, True)
