"""The viewer's web application: one page and the data that it asks for. It only reads, and knows no file paths."""

from __future__ import annotations

import asyncio
import math
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from gsvnet.errors import ConfigError, CorruptLabels, GsvnetError, StoreError
from gsvnet.store.query import run_sql, sql_text
from gsvnet.store.read import Labels
from gsvnet.store.timeline import read_timelines, summarise_videos
from gsvnet.uris import hide_secrets, redact_uri
from gsvnet.viewing.charts import draw_timeline
from gsvnet.viewing.facts import VideoFacts
from gsvnet.viewing.frames import FrameReader, NoPicture
from gsvnet.viewing.guard import make_guards
from gsvnet.viewing.page import class_chips, read_asset, render_page
from gsvnet.viewing.spans import find_spans

ASSETS = {
    "bokeh.min.js": "text/javascript",
    "view.js": "text/javascript",
    "base.css": "text/css",
    "view.css": "text/css",
}
_STRUCTS = ("pixels", "class_confidence", "drift_iou")
MAX_HITS, QUERY_LIMIT_S, QUERY_MEMORY_BYTES = 500, 20.0, 2 * 2**30


@dataclass(kw_only=True)
class Viewer:
    """What the application serves. frames: of `labels`. source: as given, for the commands that it shows. stop: set it
    to end the query that runs."""

    labels: Labels
    frames: FrameReader
    source: str | None = None
    decoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    querying: asyncio.Lock = field(default_factory=asyncio.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.videos = dict.fromkeys(self.labels.videos)

    def video(self, request: Request) -> str:
        """The video of the request's path, one of those that are there; else 404."""
        video = request.path_params["video"]
        if video not in self.videos:
            raise HTTPException(404, "no such video")
        return video

    async def frame(self, request: Request) -> tuple[str, int]:
        """The video and frame of the request's path; 404 for a frame without a row."""
        video, frame = self.video(request), request.path_params["frame"]
        if not await run_in_threadpool(self.frames.has_frame, video, frame):
            raise HTTPException(404, f"frame {frame} has no labels")
        return video, frame


def make_app(viewer: Viewer, hosts: Sequence[str], *, any_address: bool = False) -> Starlette:
    """The application. hosts, any_address: what a request's Host header may be, see `make_guards`."""
    frame = "/api/videos/{video}/frames/{frame:int}"
    routes = {
        "/": _page,
        "/assets/{name}": _asset,
        "/api/output": _output,
        "/api/query": _query,
        "/api/videos/{video}": _video,
        "/api/videos/{video}/timeline": _timeline,
        "/api/videos/{video}/at": _at,
        frame: _frame,
        f"{frame}/labels.png": _labels,
        f"{frame}/uncertain.png": _uncertain,
        f"{frame}/picture.jpg": _picture,
    }
    app = Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()],
        middleware=make_guards(hosts, any_address=any_address),
        exception_handlers={HTTPException: _refuse, GsvnetError: _explain, Exception: _apologise},
    )
    app.state.viewer = viewer
    return app


def _viewer(request: Request) -> Viewer:
    return request.app.state.viewer


async def _page(request: Request) -> Response:
    return HTMLResponse(render_page("view.html", {"name": redact_uri(_viewer(request).labels.uri)}))


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        raise HTTPException(404, "no such file")
    return Response(await run_in_threadpool(read_asset, name), media_type=ASSETS[name])


async def _output(request: Request) -> Response:
    viewer = _viewer(request)
    columns = await run_in_threadpool(_columns, viewer.labels)
    classes = [
        chip | {"identifier": name}
        for chip, name in zip(class_chips(viewer.labels.classes), viewer.labels.classes.identifiers)
    ]
    return JSONResponse({"videos": list(viewer.videos), "classes": classes, "columns": columns})


def _columns(labels: Labels) -> list[str]:
    """Columns that a condition may name, structs by their fields."""
    names = run_sql(labels, "select * from frames limit 0").column_names
    fields = [f"{name}.{each}" for name in _STRUCTS if name in names for each in labels.classes.identifiers]
    return [name for name in names if name not in _STRUCTS] + fields


async def _video(request: Request) -> Response:
    viewer = _viewer(request)
    video = viewer.video(request)
    (summary,) = await run_in_threadpool(summarise_videos, viewer.labels, [video])
    return JSONResponse(
        {
            "video": video,
            "uri": redact_uri(summary.uri),
            "first_frame": summary.first_frame,
            "last_frame": summary.last_frame,
            "num_frames": summary.frames,
            "num_lost": summary.lost,
            "num_damaged": summary.damaged,
            "num_missing": summary.missing,
            "frame_s": summary.frame_s,
            "height": summary.height,
            "width": summary.width,
        }
    )


async def _timeline(request: Request) -> Response:
    viewer = _viewer(request)
    return JSONResponse(await run_in_threadpool(_draw, viewer.labels, viewer.video(request)))


def _draw(labels: Labels, video: str) -> Mapping[str, Any]:
    (summary,) = summarise_videos(labels, [video])
    timeline = read_timelines(labels, [summary])[video]
    spans = find_spans(labels, VideoFacts(video=video, uri=summary.uri, summary=summary), timeline)
    return draw_timeline(timeline, labels.classes, spans, frame_s=summary.frame_s, cursor=True)


async def _at(request: Request) -> Response:
    viewer = _viewer(request)
    video = viewer.video(request)
    try:
        time_s = float(request.query_params.get("time_s", ""))
    except ValueError as error:
        raise HTTPException(400, "time_s must be a number of seconds") from error
    try:
        (found,) = await run_in_threadpool(viewer.labels.frames_played_at, video, [time_s])
    except CorruptLabels:
        raise
    except StoreError as error:  # nothing is on screen then
        raise HTTPException(404, str(error)) from error
    return JSONResponse({"frame_index": int(found)})


async def _frame(request: Request) -> Response:
    viewer = _viewer(request)
    video, index = await viewer.frame(request)
    row = (await run_in_threadpool(viewer.frames.read_frame, video, index)).row
    command = ["gsvnet", "show", redact_uri(viewer.labels.uri), "--video", video, "--frame", str(index)]
    command += ["--source", redact_uri(viewer.source)] if viewer.source else []
    footer = await run_in_threadpool(viewer.labels.footer, video)
    drift = await run_in_threadpool(viewer.frames.read_drift, video, index)
    return JSONResponse(
        {
            "reference": {
                "video": video,
                "frame_index": index,
                "pts": row.pts,
                "time_s": row.time_s,
                "uri": redact_uri(footer.uri),
            },
            "command": shlex.join(command),
            "status": row.status,
            "is_keyframe": row.is_keyframe,
            "keyframe_distance": row.keyframe_distance,
            "keyframe_interval": row.keyframe_interval,
            "drift": drift,
            "confidence": row.confidence,
            "confidence_p05": row.confidence_p05,
            "class_confidence": [None if math.isnan(sure) else sure for sure in row.class_confidence or ()],
            "has_uncertain": row.mask_uncertain is not None,
            "height": row.height,
            "width": row.width,
            "shares": [count / (row.height * row.width) for count in row.pixels or ()],
        }
    )


async def _labels(request: Request) -> Response:
    viewer = _viewer(request)
    video, index = await viewer.frame(request)
    return Response(await run_in_threadpool(viewer.frames.read_labels, video, index), media_type="image/png")


async def _uncertain(request: Request) -> Response:
    viewer = _viewer(request)
    video, index = await viewer.frame(request)
    found = await run_in_threadpool(viewer.frames.read_uncertain, video, index)
    if found is None:
        raise HTTPException(404, f"frame {index} has no map of uncertain pixels")
    return Response(found, media_type="image/png")


async def _picture(request: Request) -> Response:
    viewer = _viewer(request)
    video, index = await viewer.frame(request)
    return await _in_turn(
        viewer.decoding,
        request,
        lambda: Response(viewer.frames.read_picture(video, index), media_type="image/jpeg"),
    )


async def _query(request: Request) -> Response:
    viewer, where = _viewer(request), request.query_params.get("where", "").strip()
    if not where:
        raise ConfigError("no condition; for example: confidence < 0.8")
    video = request.query_params.get("video")
    if video is not None and video not in viewer.videos:
        raise HTTPException(404, "no such video")
    return await _in_turn(viewer.querying, request, lambda: JSONResponse(_find(viewer, where, video)))


def _find(viewer: Viewer, where: str, video: str | None) -> dict[str, Any]:
    """How many frames a condition holds for, and the first MAX_HITS of them."""
    among = "" if video is None else f"where video = {sql_text(video)}"
    table = run_sql(
        viewer.labels,
        f"select video, frame_index, time_s, confidence, count(*) over () as num_frames "
        f"from (select * from frames {among}) as frames where (\n{where}\n) "
        f"order by video, frame_index limit {MAX_HITS}",
        timeout_s=QUERY_LIMIT_S,
        stop=viewer.stop,
        memory_bytes=QUERY_MEMORY_BYTES,
    )
    hits = table.drop_columns(["num_frames"]).to_pylist()
    return {"num_frames": table["num_frames"][0].as_py() if hits else 0, "hits": hits}


async def _in_turn(turn: asyncio.Lock, request: Request, answer: Callable[[], Response]) -> Response:
    """The answer, one at a time; nothing for a browser that did not wait for its turn."""
    async with turn:
        if await request.is_disconnected():
            return Response(status_code=499)
        return await run_in_threadpool(answer)


def _error(message: str, status: int, **more: Any) -> Response:
    return JSONResponse({"error": " ".join(message.split()), **more}, status_code=status)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.detail, error.status_code)


async def _explain(request: Request, error: Exception) -> Response:
    message = hide_secrets(str(error), _viewer(request).labels.uri)
    if isinstance(error, NoPicture):
        return _error(message, 404, whole_video=error.whole_video)
    return _error(message, 400 if isinstance(error, ConfigError) else 500)


async def _apologise(request: Request, error: Exception) -> Response:
    """A bug of ours; the traceback goes to the terminal."""
    return _error(f"internal error ({type(error).__name__})", 500)
