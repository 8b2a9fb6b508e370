"""Videos behind storage that throttles, fails, breaks off, hangs up, or replaces them while they are read."""

from __future__ import annotations

import pytest

from gsvnet.errors import SourceChanged, SourceUnavailable, VideoNotFound
from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from gsvnet.video.probe import probe_video
from gsvnet.video.source import open_source
from tests.soak.proxy import FAIR, Weather, faulty_proxy

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def clip(media, tmp_path_factory) -> bytes:
    """Frames 0..59 of 96x128 pixels, without loss: some 200 kB."""
    return media.write_clip(tmp_path_factory.mktemp("clip") / "drive.mkv", codec="ffv1", size=(96, 128)).read_bytes()


@pytest.fixture(params=["moto_s3"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def store(server, clip, small_windows, monkeypatch):
    """(proxy, URI, options): the clip in a bucket behind the proxy, read in windows of a few kB."""
    monkeypatch.setattr("gsvnet.outages._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("gsvnet.outages._LONGEST_PAUSE_S", 0.1)
    bucket = server.make_bucket()
    server.client().put_object(Bucket=bucket, Key="drive.mkv", Body=clip)
    with faulty_proxy(server.endpoint_url) as proxy:
        options = server.options | {"endpoint_url": proxy.url, "config_kwargs": {"connect_timeout": 1}}
        yield proxy, f"s3://{bucket}/drive.mkv", options


def read_numbers(media, uri, options, pts, identity=None) -> list[int]:
    frames = read_frames(
        uri,
        first_frame=20,
        start_pts=int(pts[20]),
        end_pts=int(pts[40]),
        views=lambda _: [View(96, 128)],
        storage_options=options,
        identity=identity,
    )
    return [media.read_number(frame.images[0]) for frame in frames]


@pytest.mark.parametrize(
    "weather",
    [
        Weather(throttled=0.4),
        Weather(failing=0.4),
        Weather(cut=0.4),
        Weather(answer_lost=0.4),
        pytest.param(
            Weather(throttled=0.2, failing=0.2, cut=0.2, answer_lost=0.2, delay_s=0.01), marks=pytest.mark.slow
        ),
    ],
    ids=["throttled", "failing", "cut", "answer_lost", "all_and_slow"],
)
def test_trouble_that_passes_changes_no_frame(media, store, weather):
    proxy, uri, options = store
    proxy.weather = weather
    pts = index_video(uri, options).pts
    identity = probe_video(uri, options).identity
    assert read_numbers(media, uri, options, pts, identity) == list(range(20, 40))
    assert sum(proxy.counts.values()) > 0


@pytest.mark.parametrize("weather", [Weather(throttled=1), Weather(failing=1), Weather(cut=1), Weather(is_down=True)])
@pytest.mark.parametrize("opened", [False, True], ids=["at the start", "in the middle"])
def test_trouble_that_stays_is_an_outage_and_no_verdict_on_the_video(store, monkeypatch, weather, opened):
    proxy, uri, options = store
    monkeypatch.setattr("gsvnet.outages.RETRY_FOR_S", 1.0)
    try:
        if not opened:
            proxy.weather = weather
        with pytest.raises(SourceUnavailable, match=r"drive.mkv: storage does not answer \(.*\); check endpoint"):
            for _ in read_all(proxy, uri, options, weather):
                pass
    finally:
        proxy.weather = FAIR


def read_all(proxy, uri, options, weather):
    with open_source(uri, options) as source:
        yield source.read(10)
        proxy.weather = weather
        while data := source.read(1000):
            yield data


def test_mistakes_are_told_at_once(store):
    proxy, uri, options = store
    for missing in ("s3://no-such-bucket-here/a.mp4", uri.replace("drive", "other")):
        with pytest.raises(VideoNotFound, match="nothing there; check the spelling"):
            probe_video(missing, options)
    assert not proxy.counts


def replace_on(server, uri: str, body: bytes) -> None:
    bucket, key = uri.removeprefix("s3://").split("/")
    server.client().put_object(Bucket=bucket, Key=key, Body=body)


@pytest.mark.parametrize("server", ["moto_s3", "swift_s3"], indirect=True)
def test_a_replaced_object_is_another_video(media, store, clip, server):
    _, uri, options = store
    pts, identity = index_video(uri, options).pts, probe_video(uri, options).identity
    assert read_numbers(media, uri, options, pts, identity) == list(range(20, 40))
    replace_on(server, uri, clip + b"more")
    with pytest.raises(SourceChanged, match="changed since it was planned"):
        read_numbers(media, uri, options, pts, identity)


@pytest.mark.parametrize("server", ["moto_s3", "swift_s3"], indirect=True)
def test_an_object_replaced_while_it_is_read_is_never_mixed(media, store, clip, server):
    _, uri, options = store
    identity = probe_video(uri, options).identity
    frames = read_frames(
        uri,
        first_frame=0,
        start_pts=0,
        end_pts=None,
        views=lambda _: [View(96, 128)],
        storage_options=options,
        identity=identity,
    )
    assert media.read_number(next(frames).images[0]) == 0
    replace_on(server, uri, bytes(len(clip)))  # of the same size
    with pytest.raises(SourceChanged, match="the file was replaced while it was read"):
        list(frames)
