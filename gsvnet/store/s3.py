"""Requests to S3 by s3fs's client, one each: no multipart uploads, no cached listings, no retries below our own.

s3fs's own operations are passed by: its retry sends the rest of a half-read body again, its writes turn into multipart
uploads at 100 MiB, its listings keep a kilobyte per object. botocore's retry, below this one, rewinds.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import fsspec.asyn

MAX_PUT_BYTES = 5 * 2**30  # of one PUT


def put(fs: Any, path: str, body: BinaryIO, *, create: bool) -> None:
    """Write the object by one PUT; create: only if there is none, else HTTP 412."""
    condition = {"IfNoneMatch": "*"} if create else {}
    fsspec.asyn.sync(fs.loop, _call, fs, "put_object", path, Body=body, **condition)


def get(fs: Any, path: str) -> bytes:
    """Content of the object."""
    return fsspec.asyn.sync(fs.loop, _get, fs, path)


def exists(fs: Any, path: str) -> bool:
    """Whether the object is there, by one HEAD. A missing one raises the client's error with HTTP status 404."""
    return bool(fsspec.asyn.sync(fs.loop, _call, fs, "head_object", path))


def remove(fs: Any, path: str) -> None:
    """Remove the object; it may be gone already."""
    fsspec.asyn.sync(fs.loop, _call, fs, "delete_object", path)


def list_page(fs: Any, folder: str, token: str | None) -> tuple[list[tuple[str, int, float]], str | None]:
    """Paths, sizes and times of up to 1,000 objects below the folder; the token of the next page (None: the last)."""
    bucket, key, _ = fs.split_path(folder)
    position = {"ContinuationToken": token} if token else {}
    prefix = f"{key.rstrip('/')}/" if key else ""
    page = fsspec.asyn.sync(fs.loop, _call, fs, "list_objects_v2", bucket, Prefix=prefix, MaxKeys=1000, **position)
    found = [
        (f"{bucket}/{each['Key']}", each["Size"], each["LastModified"].timestamp()) for each in page.get("Contents", ())
    ]
    return found, page.get("NextContinuationToken") if page.get("IsTruncated") else None


async def _get(fs: Any, path: str) -> bytes:
    answer = await _call(fs, "get_object", path)
    async with answer["Body"] as body:
        return await body.read()


async def _call(fs: Any, operation: str, path: str, **request: Any) -> dict[str, Any]:
    """One request about an object, or about a bucket where the path is only that."""
    bucket, key, _ = fs.split_path(path)
    await fs.set_session()
    client = await fs.get_s3(bucket)
    method = getattr(client, operation)
    # The user's s3_additional_kwargs, e.g. server-side encryption, belong to every request.
    where = {"Bucket": bucket, "Key": key} if key else {"Bucket": bucket}
    return await method(**fs._get_s3_method_kwargs(method, **where, **request))
