from __future__ import annotations

import errno

import pytest

from gsvnet.outages import http_status, is_outage, retry_outages


def s3_error(status: int, code: str) -> OSError:
    """As s3fs raises it: an error of Python's, caused by botocore's."""
    botocore = pytest.importorskip("botocore.exceptions")
    errors = pytest.importorskip("s3fs.errors")
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return errors.translate_boto_error(botocore.ClientError(answer, "GetObject"))


@pytest.mark.parametrize(
    ("status", "code", "outage"),
    [
        (503, "SlowDown", True),
        (500, "InternalError", True),
        (429, "TooManyRequests", True),
        (400, "RequestTimeout", True),
        (403, "AccessDenied", False),
        (403, "RequestTimeTooSkewed", False),
        (404, "NoSuchBucket", False),
        (412, "PreconditionFailed", False),
        (501, "NotImplemented", False),
    ],
)
def test_answers_of_s3_are_told_apart_by_their_status(status, code, outage):
    error = s3_error(status, code)
    assert (http_status(error), is_outage(error)) == (status, outage)


def test_no_answer_is_an_outage_whichever_client_says_so():
    botocore = pytest.importorskip("botocore.exceptions")
    aiohttp = pytest.importorskip("aiohttp")
    for error in (
        botocore.EndpointConnectionError(endpoint_url="http://x"),
        botocore.ReadTimeoutError(endpoint_url="http://x"),
        botocore.ConnectionClosedError(endpoint_url="http://x"),
        aiohttp.ClientPayloadError(),
        aiohttp.ServerDisconnectedError(),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.ESTALE, "Stale file handle"),
    ):
        assert is_outage(error), error
        assert http_status(error) is None


def test_a_body_that_breaks_off_is_an_outage_whatever_status_its_cause_carries():
    aiohttp = pytest.importorskip("aiohttp")
    error = aiohttp.ClientPayloadError()
    error.__cause__ = aiohttp.http_exceptions.ContentLengthError("Not enough data")  # calls itself a 400
    assert http_status(error) == 400
    assert is_outage(error)


def test_mistakes_and_full_disks_are_no_outage():
    botocore = pytest.importorskip("botocore.exceptions")
    for error in (
        FileNotFoundError(),
        PermissionError(),
        ValueError(),
        botocore.NoCredentialsError(),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
    ):
        assert not is_outage(error), error


def test_a_call_is_repeated_while_storage_is_away():
    answers = iter([ConnectionResetError(), TimeoutError(), "here"])

    def read() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry_outages()(read) == "here"


@pytest.mark.parametrize("error", [TimeoutError("away"), PermissionError("no")])
def test_the_last_error_comes_back_once_time_is_up_or_at_once(error):
    calls = []

    def read() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error), match=str(error)):
        retry_outages(for_s=0)(read)
    assert len(calls) == 1
