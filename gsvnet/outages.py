"""When storage does not answer: telling an outage from a wrong request, and trying again with jittered pauses.

Knows every storage client by what its errors look like, so none has to be installed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

RETRY_FOR_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0

_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 509, 529})
_CODES = frozenset(
    {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException"}
)
_EXPIRED = frozenset(
    ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
    + ("400",)  # S3 says no more than that to a HEAD
)
_CLASSES = frozenset(
    ("ConnectionError", "TimeoutError", "IncompleteRead")  # Python, botocore, requests
    + ("HTTPClientError", "IncompleteReadError", "ResponseParserError")  # botocore
    + ("ClientConnectionError", "ClientPayloadError")  # aiohttp: S3, GCS, HTTP
    + ("ServiceRequestError", "ServiceResponseError", "TransportError")  # Azure, Google
)
_NETWORK_DISK = frozenset(
    (errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOTCONN)
)


def is_outage(error: BaseException) -> bool:
    """Whether storage did not answer, throttled, broke off or failed inside (5xx): the same request may work later."""
    for cause in causes(error):  # a body that breaks off comes wrapped around a status of its own
        if {cls.__name__ for cls in type(cause).__mro__} & _CLASSES:
            return True
        status = _own_status(cause)
        if status is not None:
            return status in _STATUSES or error_code(cause) in _CODES
        if isinstance(cause, OSError) and cause.errno in _NETWORK_DISK:
            return True
    return False


def http_status(error: BaseException) -> int | None:
    """HTTP status of the answer that an error of a storage client stands for; None where there was no answer."""
    return next((status for cause in causes(error) if (status := _own_status(cause)) is not None), None)


def error_code(error: BaseException) -> str:
    """S3's name for an error, such as "NoSuchKey"; "" where there is none."""
    for cause in causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def has_expired(error: BaseException) -> bool:
    """Whether S3 turns credentials down that were good once: nothing is wrong with the object that was asked for."""
    return error_code(error) in _EXPIRED


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def retry_outages(for_s: float | None = None) -> Retrying:
    """A caller that repeats a call while it meets outages, with jittered growing pauses, then raises the last error.

    for_s: seconds after which no further attempt starts (RETRY_FOR_S). `retry_outages()(read, 0, 10)` is `read(0, 10)`.
    """
    return Retrying(
        retry=retry_if_exception(is_outage),
        wait=wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S),
        stop=stop_after_delay(RETRY_FOR_S if for_s is None else for_s),
        reraise=True,
    )


def _own_status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else None
    for name in ("status_code", "status", "code"):  # Azure, aiohttp, gcsfs
        status = getattr(error, name, None)
        if isinstance(status, int) and 300 <= status < 600:
            return status
    return None
