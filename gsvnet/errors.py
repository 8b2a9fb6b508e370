"""Every error that a caller of gsvnet can act on.

GsvnetError
 +- ConfigError          bad arguments; nothing was started (exit code 2)
 |   +- ModelError       unknown model, refused checkpoint, classes that do not fit
 |   +- OutputConflict   the output belongs to a job with another fingerprint
 |   +- MissingExtra     an optional dependency is not installed
 +- VideoError           one video cannot be used; recorded as a failure, the job goes on
 |   +- VideoNotFound    nothing there, or no permission to read it
 |   +- NotAVideo        empty, unreadable container, no video stream, no frame
 |   +- SourceChanged    the video's identity differs from the stored plan's
 |   +- DecodeError      decoding stopped and cannot go on
 |   +- SourceUnavailable  the store that holds the video does not answer; nothing is known of the video
 +- StoreError           the label store cannot be read or written
 |   +- AlreadyPublished the object exists: another attempt was first (not a failure)
 |   +- NoSpace          the spool disk has too little room for a shard
 |   +- CorruptLabels    a stored mask or file does not decode
 |   +- StoreUnavailable the store does not answer or throttles, also after retries
 |   |   +- StoreRefused it answers no: credentials, rights, bucket, clock; trying again at once is of no use
 +- NotNumbers           a network gave NaN or infinity; tried elsewhere, then recorded as a failure; the job goes on
 +- WorkerError          an actor died, hung, or built another model than the driver's
"""

from __future__ import annotations


class GsvnetError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(GsvnetError):
    """Bad arguments: what was wrong, the value, what is allowed."""


class ModelError(ConfigError):
    """Unknown model name, refused checkpoint, or classes that do not fit."""


class OutputConflict(ConfigError):
    """The output folder belongs to a job with another fingerprint."""


class MissingExtra(ConfigError):
    """An optional dependency is not installed; the message names the extra."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"{module} is not installed; run: pip install 'gsvnet[{extra}]'")
        self.extra = extra

    def __reduce__(self) -> tuple:
        return (_rebuild, (type(self), str(self), {"extra": self.extra}))


class VideoError(GsvnetError):
    """One video cannot be used. Carries where: URI without credentials, frame index, pts (ticks)."""

    def __init__(self, message: str, *, uri: str = "", frame: int | None = None, pts: int | None = None) -> None:
        where = uri + (f", frame {frame}" if frame is not None else "") + (f", pts {pts}" if pts is not None else "")
        super().__init__(f"{where}: {message}" if where else message)
        self.uri, self.frame, self.pts = uri, frame, pts

    def __reduce__(self) -> tuple:
        return (_rebuild, (type(self), str(self), {"uri": self.uri, "frame": self.frame, "pts": self.pts}))


class VideoNotFound(VideoError):
    """Nothing at this URI, or no permission to read it."""


class NotAVideo(VideoError):
    """Empty, not a container that FFmpeg knows, without a video stream, or without a frame."""


class SourceChanged(VideoError):
    """The video's identity differs from the one in the stored plan."""


class DecodeError(VideoError):
    """Decoding stopped and cannot go on."""


class SourceUnavailable(VideoError):
    """The store that holds the video does not answer, throttles or fails, also after retries: an outage."""


class StoreError(GsvnetError):
    """The label store cannot be read or written."""


class AlreadyPublished(StoreError):
    """The object exists already: another attempt won the race. Not a failure."""


class NoSpace(StoreError):
    """The spool disk has too little room for a shard."""


class CorruptLabels(StoreError):
    """A stored mask or Parquet file does not decode."""


class StoreUnavailable(StoreError):
    """The label store does not answer, throttles or fails, also after retries: an outage, not the shard's fault."""


class StoreRefused(StoreUnavailable):
    """The store refuses access: credentials, rights, a missing bucket, a wrong clock. No shard's fault either."""


class NotNumbers(GsvnetError):
    """A network's output for a frame holds NaN or infinity, from which labels would be drawn that mean nothing."""


class WorkerError(GsvnetError):
    """An actor died, hung, or built another model than the driver's."""


def _rebuild(cls: type[GsvnetError], message: str, fields: dict) -> GsvnetError:
    """Unpickle an error with extra fields without running its constructor again."""
    error = cls.__new__(cls)
    error.args = (message,)
    error.__dict__.update(fields)
    return error
