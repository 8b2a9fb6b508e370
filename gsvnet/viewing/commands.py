"""`gsvnet report`, `gsvnet view` and `gsvnet review`."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import PurePosixPath

from rich.console import Console

from gsvnet.errors import AlreadyPublished, ConfigError, GsvnetError
from gsvnet.store.filesystem import StorageOptions, has_object
from gsvnet.store.layout import derived_uri
from gsvnet.store.publish import publish_bytes, replace_bytes
from gsvnet.store.read import open_labels
from gsvnet.uris import local_path, protocol_of_uri, redact_uri
from gsvnet.viewing.config import ReportConfig, ReviewConfig, ViewConfig
from gsvnet.words import size_in_words

REPORT = "_report.html"


def report(config: ReportConfig, console: Console) -> int:
    """Write the page and say where it is; exit code 0.

    Raises ConfigError where --to exists and --overwrite is not given, StoreError and its kin.
    """
    from gsvnet.viewing.report import build_report

    target = derived_uri(config.out, REPORT) if config.to is None else config.to
    may_replace = config.to is None or config.overwrite
    options = config.storage_options or None
    target_options = _check_target(target, config, "--to", may_replace=may_replace)
    page = build_report(open_labels(config.out, options), config).encode()
    _write_target(page, target, target_options, may_replace=may_replace)
    _say_written(target, page, console)
    return 0


def review(config: ReviewConfig, console: Console) -> int:
    """Choose frames, write the files that are asked for, and print what was chosen; exit code 0.

    Raises ConfigError where a file exists and --overwrite is not given, StoreError and its kin.
    """
    from gsvnet.viewing.review import choose_for_review
    from gsvnet.viewing.review_text import show_review, to_json, write_frames

    named = {"--write": config.write, "--pages": config.pages}
    targets = {
        flag: (target, _check_target(target, config, flag, may_replace=config.overwrite))
        for flag, target in named.items()
        if target is not None
    }
    labels = open_labels(config.out, config.storage_options or None)
    chosen = choose_for_review(labels, budget=config.budget, min_gap_s=config.min_gap_seconds, videos=config.video)
    name, written = redact_uri(config.out), []
    for flag, (target, options) in targets.items():
        if flag == "--write":
            data = write_frames(chosen, PurePosixPath(target).suffix)
        else:
            from gsvnet.viewing.review_page import build_review_page  # pictures need more packages than a list

            data = build_review_page(labels, chosen, config).encode()
        _write_target(data, target, options, may_replace=config.overwrite)
        written.append((target, data))
    if config.json:
        console.out(to_json(chosen, name, config.budget, config.min_gap_seconds), highlight=False)
        return 0
    show_review(chosen, name, config.min_gap_seconds, console)
    for target, data in written:
        _say_written(target, data, console)
    return 0


def _check_target(target: str, config: ReportConfig | ReviewConfig, flag: str, *, may_replace: bool) -> StorageOptions:
    """The storage options of a file to write. Raises ConfigError where it may not be, before any work is done."""
    options = config.storage_options or None
    target_options = options if protocol_of_uri(target) == protocol_of_uri(config.out) else None
    path = local_path(target)
    if path is not None and path.is_dir():
        raise ConfigError(f"{flag} {target} is a folder; name a file in it")
    if not may_replace and has_object(target, target_options):
        raise ConfigError(_exists(target))
    return target_options


def _write_target(data: bytes, target: str, options: StorageOptions, *, may_replace: bool) -> None:
    try:
        (replace_bytes if may_replace else publish_bytes)(data, target, options)
    except AlreadyPublished as error:
        raise ConfigError(_exists(target)) from error


def _say_written(target: str, data: bytes, console: Console) -> None:
    text = f"{redact_uri(target)}: {size_in_words(len(data))}"
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _exists(target: str) -> str:
    return f"{redact_uri(target)} exists; --overwrite replaces it"


def view(config: ViewConfig, console: Console) -> int:
    """Serve the viewer until Ctrl-C or SIGTERM, then finish what was asked for; exit code 0.

    Raises GsvnetError where the address cannot be listened on, StoreError and its kin for the output.
    """
    from gsvnet.viewing.frames import FrameReader
    from gsvnet.viewing.serve import serve
    from gsvnet.viewing.server import Viewer, make_app

    labels = open_labels(config.out, config.storage_options or None)
    frames = FrameReader(labels, source=config.source, video_options=config.video_options or None)
    viewer = Viewer(labels=labels, frames=frames, source=config.source)
    with contextlib.suppress(KeyboardInterrupt), listen(config.host, config.port) as listener:
        address, port = listener.getsockname()[:2]
        is_any = ipaddress.ip_address(address).is_unspecified
        hosts = _host_names(config.host, is_any=is_any)
        for style, line in _describe(config, f"http://{hosts[-1]}:{port}/", ipaddress.ip_address(address).is_loopback):
            console.print(line, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)
        serve(make_app(viewer, hosts, any_address=is_any), listener, viewer.stop)
    return 0


def _describe(config: ViewConfig, url: str, is_loopback: bool) -> list[tuple[str, str]]:
    """(style, line) of what is said at the start."""
    lines = [("", f"{redact_uri(config.out)} at {url} (Ctrl-C ends)")]
    if not is_loopback:
        host = _in_url(config.host)
        lines.insert(0, ("yellow", f"warning: whoever reaches {host} sees all labels and videos of this output"))
    return lines


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. port: 0 takes any free one. Raises GsvnetError where it cannot."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()  # "all addresses" are the older ones too
        listener = socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=both)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while ")[0]
        raise GsvnetError(
            f"cannot listen on {host}, port {port}: {why}; choose another --port (0: any free one)"
        ) from error
    # accepted sockets inherit it; without, an answer's body waits 40 ms for the browser's acknowledgement of its head
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _host_names(host: str, *, is_any: bool) -> list[str]:
    """What a browser may call this machine: loopback names, then what was asked for; the last is told to users.

    is_any: that is all addresses of this machine, which users call by its names.
    """
    own = [socket.getfqdn(), socket.gethostname()] if is_any else [_in_url(host)]
    return ["localhost", "127.0.0.1", "[::1]", *own]


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
