"""Videos on S3: an in-process server on loopback."""

from __future__ import annotations

import pytest

from gsvnet.errors import SourceUnavailable, VideoNotFound
from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from gsvnet.video.probe import probe_video

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def storage_options():
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {"key": "k", "secret": "s", "endpoint_url": f"http://{host}:{port}"}
    server.stop()


@pytest.fixture
def stored(storage_options, zoo) -> str:
    import s3fs

    filesystem = s3fs.S3FileSystem(**storage_options)
    filesystem.makedirs("videos", exist_ok=True)
    filesystem.pipe("videos/drive.mkv", zoo("open_gop_mkv").read_bytes())
    return "s3://videos/drive.mkv"


def test_frames_from_s3_are_those_of_the_file(stored, storage_options, media):
    index = index_video(stored, storage_options)
    frames = read_frames(
        stored,
        first_frame=60,
        start_pts=int(index.pts[60]),
        end_pts=int(index.pts[70]),
        views=lambda _: [View(72, 96)],
        storage_options=storage_options,
    )
    assert [(f.index, media.read_number(f.images[0])) for f in frames] == [(n, n) for n in range(60, 70)]


def test_identity_on_s3_is_the_etag(stored, storage_options):
    info = probe_video(stored, storage_options)
    assert info.identity.startswith(f"{info.size_bytes}:etag:")


@pytest.mark.parametrize("uri", ["s3://videos/none.mkv", "s3://no-such-bucket/drive.mkv"])
def test_what_is_not_on_s3_is_not_found(stored, storage_options, uri):
    with pytest.raises(VideoNotFound, match=f"{uri}: nothing there"):
        probe_video(uri, storage_options)


def test_a_store_that_does_not_answer_is_one_clear_line(storage_options, monkeypatch):
    monkeypatch.setattr("gsvnet.outages.RETRY_FOR_S", 0.0)
    nowhere = {
        "key": "k",
        "secret": "s",
        "endpoint_url": "http://127.0.0.1:1",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    with pytest.raises(SourceUnavailable, match=r"Endpoint.*check endpoint and network") as caught:
        probe_video("s3://videos/drive.mkv", nowhere)
    assert "\n" not in str(caught.value)
