"""One suite for every kind of store: create-only, whole or not at all, one winner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import fsspec
import numpy as np
import pyarrow.dataset as pads
import pytest

from gsvnet.classes import CAMVID
from gsvnet.errors import AlreadyPublished, ConfigError, NoSpace, StoreError
from gsvnet.store.codec import encode_mask, pixel_counts
from gsvnet.store.filesystem import read_bytes
from gsvnet.store.job import open_job
from gsvnet.store.layout import list_committed, shard_uri
from gsvnet.store.manifest import write_derived
from gsvnet.store.publish import publish_bytes, publish_file, replace_bytes
from gsvnet.store.read import open_labels
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.temporary import sweep_temporary
from gsvnet.store.write import ShardWriter


class Place:
    """A folder in some store."""

    def __init__(self, root: str, options: dict | None = None) -> None:
        self.root, self.options = root, options

    def uri(self, name: str = "labels/v/000000.parquet") -> str:
        return f"{self.root}/{name}"

    def read(self, name: str = "labels/v/000000.parquet") -> bytes | None:
        return read_bytes(self.uri(name), self.options)


@pytest.fixture(scope="module")
def s3_options():
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s"}
    fsspec.filesystem("s3", **options).call_s3("create_bucket", Bucket="bucket")
    yield options
    server.stop()


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def place(request, tmp_path) -> Place:
    if request.param == "local":
        return Place(str(tmp_path))
    if request.param == "memory":
        return Place(f"memory://{uuid.uuid4().hex}")
    return Place(f"s3://bucket/{uuid.uuid4().hex}", request.getfixturevalue("s3_options"))


def test_published_bytes_read_back(place):
    publish_bytes(b"content", place.uri(), place.options)
    assert place.read() == b"content"


def test_published_file_reads_back_and_the_source_stays(place, tmp_path):
    source = tmp_path / "spool"
    source.write_bytes(os.urandom(3 << 20))
    publish_file(source, place.uri(), place.options)
    assert place.read() == source.read_bytes()


def test_second_publish_loses_and_the_first_content_stays(place):
    publish_bytes(b"first", place.uri(), place.options)
    with pytest.raises(AlreadyPublished, match="exists already"):
        publish_bytes(b"second", place.uri(), place.options)
    assert place.read() == b"first"


def test_of_eight_racing_threads_one_wins(place):
    for name in ("labels/v/000000.parquet", "labels/v/000001.parquet", "labels/w/000000.parquet"):
        start = Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            races = [pool.submit(_race, place, name, bytes([65 + i]) * 100_000, start) for i in range(8)]
            won = [race.result() for race in races]
        assert won.count(True) == 1
        assert place.read(name) == bytes([65 + won.index(True)]) * 100_000


def _race(place: Place, name: str, content: bytes, start: Barrier) -> bool:
    start.wait()
    try:
        publish_bytes(content, place.uri(name), place.options)
    except AlreadyPublished:
        return False
    return True


def test_replace_overwrites_a_derived_file(place):
    replace_bytes(b"old", place.uri("_report.json"), place.options)
    replace_bytes(b"new", place.uri("_report.json"), place.options)
    assert place.read("_report.json") == b"new"


def test_a_missing_source_publishes_nothing(place, tmp_path):
    with pytest.raises(StoreError):
        publish_file(tmp_path / "absent", place.uri(), place.options)
    assert place.read() is None


def test_a_store_without_a_create_only_write_is_refused():
    with pytest.raises(ConfigError, match="--unsafe-commit"):
        publish_bytes(b"x", "http://127.0.0.1:9/labels/v/000000.parquet")


def test_unsafe_commit_still_sees_an_existing_object(monkeypatch):
    import gsvnet.store.publish as publish

    monkeypatch.delitem(publish._CREATE, "memory")
    uri = f"memory://{uuid.uuid4().hex}/x"
    publish_bytes(b"first", uri, unsafe_commit=True)
    with pytest.raises(AlreadyPublished):
        publish_bytes(b"second", uri, unsafe_commit=True)
    assert read_bytes(uri) == b"first"


# --- s3 -------------------------------------------------------------------------------------------------------------


@pytest.mark.s3
def test_a_large_shard_is_one_put_and_no_multipart_upload(s3_options, tmp_path):
    source = tmp_path / "spool"
    with source.open("wb") as file:
        file.truncate(110 << 20)  # s3fs's own writes turn into multipart uploads at 100 MiB
    uri = f"s3://bucket/{uuid.uuid4().hex}"
    publish_file(source, uri, s3_options)
    info = fsspec.filesystem("s3", **s3_options).info(uri)
    assert info["size"] == 110 << 20
    assert "-" not in info["ETag"]  # the etag of a multipart object ends in "-<parts>"


@pytest.mark.s3
def test_missing_bucket_is_a_store_error(s3_options):
    with pytest.raises(StoreError, match="there is no bucket no-such-bucket; create it"):
        publish_bytes(b"x", "s3://no-such-bucket/x", s3_options)


@pytest.mark.s3
def test_errors_never_show_credentials_of_a_uri(s3_options):
    with pytest.raises(StoreError) as caught:
        publish_bytes(b"x", "s3://user:secretword@bucket/x?token=secretword", s3_options)
    assert "secretword" not in str(caught.value)


@pytest.mark.s3
def test_a_writer_killed_while_it_sends_leaves_nothing_or_all(s3_options, tmp_path):
    source = tmp_path / "spool"
    source.write_bytes(bytes(40 << 20))
    for delay_s in (0.01, 0.05, 0.15):
        uri = f"s3://bucket/{uuid.uuid4().hex}/000000.parquet"
        code = f"""
            from gsvnet.store.publish import publish_bytes, publish_file
            publish_bytes(b"", {uri + ".ready"!r}, {s3_options!r})
            print("ready", flush=True)
            publish_file({str(source)!r}, {uri!r}, {s3_options!r})
        """
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(delay_s)
        child.kill()
        child.wait()
        assert read_bytes(uri, s3_options) in (None, source.read_bytes())


class _Answers:
    """An S3 client's put_object that fails as told, then works; keeps what each try sent."""

    def __init__(self, fs, failures):
        from botocore.exceptions import ClientError

        self.sent = []
        answers = [
            ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")
            for code, status in failures
        ]
        fs.connect()
        original = fs.s3.put_object

        async def put_object(**request):
            if answers:
                self.sent.append(request["Body"].read())  # a try that fails half way has moved the body
                raise answers.pop(0)
            self.sent.append(request["Body"].read())
            request["Body"].seek(0)
            return await original(**request)

        put_object.__name__ = "put_object"
        self.fs, self.put_object = fs, put_object


@pytest.mark.s3
@pytest.mark.parametrize(
    "failure", [("ConditionalRequestConflict", 409), ("SlowDown", 503), ("InternalError", 500), ("TooMany", 429)]
)
def test_conflict_and_throttling_are_tried_again_with_the_whole_body(s3_options, monkeypatch, failure):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    options = {**s3_options, "skip_instance_cache": True}
    answers = _Answers(fsspec.filesystem("s3", **options), [failure, failure])
    monkeypatch.setattr(answers.fs.s3, "put_object", answers.put_object)
    monkeypatch.setattr("gsvnet.store.publish.open_filesystem", lambda uri, o: (answers.fs, uri[5:]))
    uri = f"s3://bucket/{uuid.uuid4().hex}"
    publish_bytes(b"all of it", uri, options)
    assert answers.sent == [b"all of it"] * 3
    assert read_bytes(uri, s3_options) == b"all of it"


@pytest.mark.s3
@pytest.mark.parametrize(
    ("failure", "error"),
    [(("PreconditionFailed", 412), AlreadyPublished), (("NotImplemented", 501), ConfigError),
     (("AccessDenied", 403), StoreError)],
)  # fmt: skip
def test_final_answers_are_not_tried_again(s3_options, monkeypatch, failure, error):
    answers = _Answers(fsspec.filesystem("s3", **s3_options, skip_instance_cache=True), [failure])
    monkeypatch.setattr(answers.fs.s3, "put_object", answers.put_object)
    monkeypatch.setattr("gsvnet.store.publish.open_filesystem", lambda uri, o: (answers.fs, uri[5:]))
    with pytest.raises(error):
        publish_bytes(b"x", f"s3://bucket/{uuid.uuid4().hex}")
    assert len(answers.sent) == 1


@pytest.mark.s3
def test_labels_are_written_and_read_on_s3(s3_options, tmp_path):
    out = f"s3://bucket/{uuid.uuid4().hex}"
    job = open_job(out, {"keyframe_interval": 5}, classes=CAMVID, model_hash="m", storage_options=s3_options)
    assert open_job(out, {"keyframe_interval": 5}, classes=CAMVID, model_hash="m", storage_options=s3_options) == job
    footer = ShardFooter(
        job=job.fingerprint, video="v", uri="v.mp4", identity="i", time_base="1/25", shard=0, first_frame=0,
        model_hash="m", classes=CAMVID, precision="fp32", device="cpu", threads=1,
    )  # fmt: skip
    maps = [np.full((4, 6), i, np.uint8) for i in range(5)]
    with ShardWriter(
        shard_uri(out, "v", "000000"), footer=footer, spool_dir=tmp_path, storage_options=s3_options
    ) as writer:
        for i, labels in enumerate(maps):
            row = FrameRow(
                frame_index=i, pts=i, time_s=i / 25, is_keyframe=i == 0, keyframe_distance=i, height=4, width=6,
                pixels=pixel_counts(labels, 11), mask=encode_mask(labels),
            )  # fmt: skip
            writer.append(row)
    assert list_committed(out, s3_options) == {("v", "000000")}
    labels = open_labels(out, s3_options)
    np.testing.assert_array_equal(labels.labels_at("v", [4, 1]), np.stack([maps[4], maps[1]]))
    assert labels.frames.count_rows(filter=pads.field("pixels", "sky") > 0) == 1
    assert write_derived(out, complete=True, storage_options=s3_options)["rows"].to_pylist() == [5]


# --- local ----------------------------------------------------------------------------------------------------------


def test_of_eight_racing_processes_one_wins(tmp_path):
    uri = str(tmp_path / "labels" / "v" / "000000.parquet")
    go = tmp_path / "go"
    code = f"""
        import os, sys, time
        from gsvnet.errors import AlreadyPublished
        from gsvnet.store.publish import publish_bytes
        while not os.path.exists({str(go)!r}): time.sleep(0.001)
        try: publish_bytes(sys.argv[1].encode() * 100_000, {uri!r})
        except AlreadyPublished: sys.exit(7)
    """
    racers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), c]) for c in "ABCDEFGH"]
    time.sleep(1.0)
    go.touch()
    codes = [racer.wait() for racer in racers]
    assert sorted(codes) == [0] + [7] * 7
    assert Path(uri).read_bytes() == b"ABCDEFGH"[codes.index(0)].to_bytes() * 100_000


_KILLER = """
    import os, signal, sys
    import gsvnet.store.publish as publish, gsvnet.store.temporary as temporary

    FILES = {publish.__file__, temporary.__file__}

    def publish_and_die(root, step):
        lines = 0
        def trace(frame, event, argument):
            nonlocal lines
            if frame.f_code.co_filename not in FILES: return None
            if event == "line":
                lines += 1
                if lines == step: os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)
        publish.publish_bytes(b"content", root + "/labels/v/000000.parquet")
        os._exit(0)

    for step in range(1, 1000):
        root = f"{sys.argv[1]}/{step:04d}"
        os.mkdir(root)
        child = os.fork()
        if child == 0: publish_and_die(root, step)
        if os.waitpid(child, 0)[1] == 0: break
    print(step)
"""


def test_killed_at_every_line_leaves_nothing_or_all_and_leftovers_are_swept(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_KILLER), str(tmp_path)], capture_output=True, text=True, check=True
    )
    steps = int(run.stdout)
    assert steps > 40  # it was killed many times before it came to the end
    seen = {"nothing": 0, "all": 0, "leftover": 0}
    for step in range(1, steps + 1):
        root = tmp_path / f"{step:04d}"
        visible = list(root.glob("labels/**/*.parquet"))
        assert [path.read_bytes() for path in visible] in ([], [b"content"])
        others = [path for path in root.rglob("*") if path.is_file() and path not in visible]
        assert all(path.name.startswith(".") for path in others)
        assert sweep_temporary(root, recursive=True) == others
        assert [path for path in root.rglob("*") if path.is_file()] == visible
        seen["all" if visible else "nothing"] += 1
        seen["leftover"] += len(others)
    assert min(seen.values()) > 3, seen


def test_a_living_writer_is_not_swept(tmp_path):
    code = f"""
        from pathlib import Path
        from gsvnet.store.temporary import create_temporary
        held = create_temporary(Path({str(tmp_path)!r}))
        print("ready", flush=True)
        import time; time.sleep(60)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    child.stdout.readline()
    assert sweep_temporary(tmp_path) == []
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(sweep_temporary(tmp_path)) == 1


def test_a_locked_file_of_another_container_is_not_swept(tmp_path):
    from gsvnet.store.temporary import create_temporary

    path, file = create_temporary(tmp_path)
    foreign = path.rename(tmp_path / path.name.replace(f"-{os.getpid()}-", "-4194305-"))  # no such process id here
    assert sweep_temporary(tmp_path) == []
    file.close()
    assert sweep_temporary(tmp_path) == [foreign]


def test_another_host_s_file_is_not_swept(tmp_path):
    (tmp_path / ".gsvnet-elsewhere-4194305-abc.tmp").touch()
    assert sweep_temporary(tmp_path) == []


def test_a_full_disk_is_no_space_and_leaves_nothing(tmp_path):
    code = f"""
        import resource, signal, sys
        from gsvnet.errors import NoSpace
        from gsvnet.store.publish import publish_bytes
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try: publish_bytes(bytes(200_000), {str(tmp_path / "labels" / "x.parquet")!r})
        except NoSpace: sys.exit(7)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 7
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_where_a_folder_belongs_is_a_store_error_and_no_lost_race(tmp_path):
    (tmp_path / "labels").touch()
    with pytest.raises(StoreError, match="not a folder") as caught:
        publish_bytes(b"x", str(tmp_path / "labels" / "v" / "x.parquet"))
    assert not isinstance(caught.value, AlreadyPublished | NoSpace)
