"""What went wrong with a store: tried again where that may help, else one line that names the object and the remedy."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tenacity import retry_if_exception

from gsvnet.errors import CorruptLabels, GsvnetError, NoSpace, StoreError, StoreRefused, StoreUnavailable
from gsvnet.outages import causes, error_code, has_expired, http_status, is_outage, retry_outages
from gsvnet.uris import hide_secrets, redact_text, redact_uri

T = TypeVar("T")

RETRY_FOR_S = 30.0  # no further try starts after this; the last one may take 50 s where a server accepts and is silent
NO_SPACE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_UNKNOWN = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "AuthFailure"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}


def damaged_labels(what: str) -> CorruptLabels:
    """The error to raise for labels that contradict themselves. what: one line that names them."""
    return CorruptLabels(f"{what}; gsvnet verify lists all that is damaged")


def attempt(doing: str, uri: str, action: Callable[..., T], *arguments: Any) -> T:
    """What `action(*arguments)` gives; tried again for RETRY_FOR_S, with jittered pauses, while the store is out.

    doing: "read", "list", "write" or "remove", for the message. gsvnet's own errors come through as they are.
    Raises StoreUnavailable, StoreRefused, NoSpace, StoreError.
    """
    again = retry_outages(RETRY_FOR_S).copy(retry=retry_if_exception(_may_pass))
    try:
        return again(action, *arguments)
    except GsvnetError:
        raise
    except Exception as error:  # every driver has errors of its own
        raise explain(error, doing, uri) from error


def explain(error: Exception, doing: str, uri: str) -> StoreError:
    """The error of a driver as one of ours, without credentials."""
    what = f"cannot {doing} {redact_uri(uri)}"
    if any(isinstance(cause, OSError) and cause.errno in NO_SPACE_ERRORS for cause in causes(error)):
        return NoSpace(f"no space left to {doing} {redact_uri(uri)}")
    refusal = _find_refusal(error, uri)
    if refusal is not None:
        return StoreRefused(f"{what}: {refusal}")
    told = hide_secrets(describe(error), uri)
    if _may_pass(error):
        return StoreUnavailable(f"{what}: the store is out or throttles, also after several tries: {told}")
    return StoreError(f"{what}: {told}")


def describe(error: BaseException) -> str:
    """One line for a driver's error: its class and message, with every URL redacted."""
    return f"{type(error).__name__}: {redact_text(str(error))}"


def is_missing(error: BaseException) -> bool:
    """Whether the error says that there is no such object or folder, in a bucket that exists."""
    if error_code(error) == "NoSuchBucket":
        return False
    return isinstance(error, FileNotFoundError | NotADirectoryError) or http_status(error) == 404


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may work a little later. 409: another request for the object is on its way."""
    if _is_unknown_host(error) or _is_untrusted(error):
        return False
    return is_outage(error) or http_status(error) == 409


def _find_refusal(error: BaseException, uri: str) -> str | None:
    """Why the store lets nobody in, and what to do; None for any other error."""
    code = error_code(error)
    if _is_unknown_host(error):
        return f"no host has the name of the store's endpoint; correct endpoint_url: {describe(error)}"
    if _is_untrusted(error):
        return f"the certificate of the store's endpoint is not trusted: {describe(error)}"
    if code == "NoSuchBucket":
        return (
            f"there is no bucket {redact_uri(uri).partition('://')[2].partition('/')[0]}; create it, or correct the URI"
        )
    if code == "RequestTimeTooSkewed":
        return f"the clock of {socket.gethostname()} differs too much from the store's ({code}); set it, e.g. by NTP"
    if has_expired(error):
        return f"the credentials have expired, or are for another region ({code}); renew them"
    if code in _UNKNOWN or http_status(error) == 401:
        return f"the store does not accept the credentials ({code or 401}); check key, secret and token"
    if {type(cause).__name__ for cause in causes(error)} & _NO_CREDENTIALS:
        return "there are no credentials; give key and secret as storage options or in the environment"
    if http_status(error) == 403:
        return f"the credentials lack the right to ({code or 403}); needed are listing, reading, writing and removing"
    if any(isinstance(cause, PermissionError) for cause in causes(error)):
        return "no permission; change its owner or mode, or choose another folder"
    if any(isinstance(cause, OSError) and cause.errno == errno.EROFS for cause in causes(error)):
        return "the file system is read-only; choose another folder"
    return None


def _is_unknown_host(error: BaseException) -> bool:
    return any(isinstance(each, socket.gaierror) and each.errno == socket.EAI_NONAME for each in _below(error))


def _is_untrusted(error: BaseException) -> bool:
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _below(error))


def _below(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all below it: botocore raises connection errors without naming their cause."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
