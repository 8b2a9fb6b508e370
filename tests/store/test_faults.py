"""A store that is out is tried again for a bounded time; one that refuses says at once why, and never a credential."""

from __future__ import annotations

import errno
import pickle
import socket
import ssl
import time

import pytest
import tenacity

from gsvnet.errors import NoSpace, StoreError, StoreRefused, StoreUnavailable
from gsvnet.store import faults
from gsvnet.store.faults import attempt, explain
from gsvnet.store.filesystem import open_filesystem, read_bytes
from gsvnet.store.job import FailureRecord, list_failures, remove_failure, write_failure
from gsvnet.store.layout import list_committed
from gsvnet.store.publish import publish_bytes, replace_bytes

URI = "s3://user:secretword@bucket/out/_job.json?token=secretword"


def s3_error(status: int, code: str) -> Exception:
    botocore = pytest.importorskip("botocore.exceptions")
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.ClientError(answer, "GetObject")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (s3_error(404, "NoSuchBucket"), StoreRefused, "there is no bucket bucket; create it"),
        (s3_error(403, "InvalidAccessKeyId"), StoreRefused, "does not accept the credentials"),
        (s3_error(403, "SignatureDoesNotMatch"), StoreRefused, "check key, secret and token"),
        (s3_error(401, "Unauthorized"), StoreRefused, "does not accept the credentials"),
        (s3_error(400, "ExpiredToken"), StoreRefused, "have expired, or are for another region (ExpiredToken); renew"),
        (s3_error(400, "400"), StoreRefused, "another region (400); renew"),  # to a HEAD
        (s3_error(403, "AccessDenied"), StoreRefused, "lack the right to (AccessDenied)"),
        (s3_error(403, "RequestTimeTooSkewed"), StoreRefused, f"the clock of {socket.gethostname()} differs"),
        (PermissionError(errno.EACCES, "Permission denied"), StoreRefused, "no permission; change its owner"),
        (OSError(errno.EROFS, "Read-only file system"), StoreRefused, "the file system is read-only"),
        (caused(OSError(), socket.gaierror(socket.EAI_NONAME, "unknown")), StoreRefused, "correct endpoint_url"),
        (caused(OSError(), ssl.SSLCertVerificationError("self-signed")), StoreRefused, "certificate"),
        (s3_error(503, "SlowDown"), StoreUnavailable, "is out or throttles"),
        (s3_error(409, "OperationAborted"), StoreUnavailable, "is out or throttles"),
        (ConnectionResetError("reset"), StoreUnavailable, "is out or throttles"),
        (caused(OSError(), socket.gaierror(socket.EAI_AGAIN, "later")), StoreError, ""),
        (OSError(errno.ENOSPC, "No space left on device"), NoSpace, "no space left to read"),
        (s3_error(400, "InvalidArgument"), StoreError, "InvalidArgument"),
        (ValueError("Invalid endpoint: user:secretword"), StoreError, "Invalid endpoint"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_every_fault_is_one_line_with_the_object_and_the_remedy(error, kind, remedy):
    found = explain(error, "read", URI)
    assert type(found) is kind
    assert remedy in str(found)
    assert "s3://bucket/out/_job.json" in str(found)
    assert "secretword" not in str(found)
    assert "\n" not in str(found)
    assert str(pickle.loads(pickle.dumps(found))) == str(found)


def test_missing_credentials_are_told():
    botocore = pytest.importorskip("botocore.exceptions")
    assert "there are no credentials" in str(explain(botocore.NoCredentialsError(), "read", URI))


def test_outages_are_tried_again_until_time_is_up_and_refusals_are_not(monkeypatch, hold_clock):
    clock = hold_clock(tenacity)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(tenacity.nap, "time", clock)
    monkeypatch.setattr(faults, "RETRY_FOR_S", 1.0)
    calls = []

    def ask(error):
        calls.append(error)
        raise error

    with pytest.raises(StoreUnavailable):
        attempt("read", URI, ask, TimeoutError())
    assert len(calls) > 2
    assert clock.now >= 1
    calls.clear()
    with pytest.raises(StoreRefused):
        attempt("read", URI, ask, PermissionError())
    assert len(calls) == 1


# --- servers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stormy(moto_s3, s3_servers):
    """A bucket of moto behind a proxy that misbehaves: bucket, options, and the proxy."""
    from tests.soak.proxy import faulty_proxy

    with faulty_proxy(moto_s3.endpoint_url, seed=1) as proxy:
        yield moto_s3.make_bucket(), moto_s3.options | {"endpoint_url": proxy.url}, proxy


FAILURE = FailureRecord(video="v", uri="v.mp4", shard="000000", error="E", message="m", attempts=1)


@pytest.mark.s3
def test_everything_the_store_does_goes_through_throttling_and_broken_connections(stormy):
    from tests.soak.proxy import Weather

    bucket, options, proxy = stormy
    out = f"s3://{bucket}/out"
    proxy.weather = Weather(throttled=0.15, failing=0.1, cut=0.15)
    for index in range(4):
        publish_bytes(b"labels", f"{out}/labels/v/{index:06d}.parquet", options)
        replace_bytes(b"report", f"{out}/_report.json", options)
        write_failure(out, FAILURE, options)
        assert list_failures(out, options) == [FAILURE]
        assert read_bytes(f"{out}/labels/v/{index:06d}.parquet", options) == b"labels"
        remove_failure(out, FAILURE, options)
        assert list_failures(out, options) == []
        assert list_committed(out, options).indices("v") == list(range(index + 1))
    assert min(proxy.counts[kind] for kind in ("throttled", "failing", "cut")) > 0


@pytest.mark.s3
def test_a_lost_answer_to_a_write_is_a_lost_race_at_worst_and_the_object_is_there(stormy):
    from gsvnet.errors import AlreadyPublished
    from tests.soak.proxy import FAIR, Weather

    bucket, options, proxy = stormy
    proxy.weather = Weather(answer_lost=0.6)
    for index in range(5):
        try:
            publish_bytes(b"labels", f"s3://{bucket}/{index}", options)
        except AlreadyPublished:
            continue
    proxy.weather = FAIR
    assert proxy.counts["answer lost"] > 0
    assert [read_bytes(f"s3://{bucket}/{index}", options) for index in range(5)] == [b"labels"] * 5


@pytest.mark.s3
def test_an_outage_ends_in_one_line_after_a_bounded_time(stormy, monkeypatch):
    from tests.soak.proxy import Weather

    monkeypatch.setattr(faults, "RETRY_FOR_S", 1.0)
    bucket, options, proxy = stormy
    proxy.weather = Weather(is_down=True)
    start = time.monotonic()
    for act in (read_bytes, list_committed, lambda uri, o: publish_bytes(b"x", uri, o)):
        with pytest.raises(StoreUnavailable, match=f"s3://{bucket}/x"):
            act(f"s3://{bucket}/x", options)
    assert time.monotonic() - start < 3 * (1.0 + 5.0)


@pytest.mark.s3
@pytest.mark.slow
def test_a_port_where_nobody_listens_is_given_up_after_half_a_minute():
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="s3://bucket/x"):
        read_bytes("s3://bucket/x", {"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "s"})
    assert 20 < time.monotonic() - start < 45


@pytest.mark.s3
def test_a_server_that_accepts_and_is_silent_is_given_up_by_time_limits(monkeypatch):
    monkeypatch.setattr(faults, "RETRY_FOR_S", 0.5)
    limits = {"read_timeout": 0.5, "retries": {"total_max_attempts": 1}}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {"endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}", "key": "k", "secret": "s"}
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            read_bytes("s3://bucket/x", options | {"config_kwargs": limits})
        assert time.monotonic() - start < 10


@pytest.mark.s3
def test_users_own_client_settings_stand(moto_s3):
    given = {"config_kwargs": {"read_timeout": 77}}
    fs, _ = open_filesystem("s3://bucket/x", moto_s3.options | given)
    assert fs.config_kwargs["read_timeout"] == 77
    assert fs.config_kwargs["connect_timeout"] == 5


@pytest.mark.s3
def test_an_outage_while_labels_are_read_is_no_damage(stormy, write_shard, tmp_path, monkeypatch):
    from gsvnet.store.read import open_labels
    from tests.soak.proxy import FAIR, Weather

    monkeypatch.setattr(faults, "RETRY_FOR_S", 1.0)
    write_shard(str(tmp_path / "out"))
    bucket, options, proxy = stormy
    open_filesystem("s3://", options)[0].put(str(tmp_path / "out"), f"{bucket}/out", recursive=True)
    labels = open_labels(f"s3://{bucket}/out", options)
    proxy.weather = Weather(is_down=True)
    with pytest.raises(StoreUnavailable):
        labels.labels_at(labels.videos[0], [3])
    proxy.weather = FAIR
    assert labels.labels_at(labels.videos[0], [3]).shape == (1, 12, 20)
