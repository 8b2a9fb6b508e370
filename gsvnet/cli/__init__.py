"""The command line, `gsvnet label` and its sisters (see COMMANDS). Each command is a function's arguments."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from gsvnet import __version__
from gsvnet.cli.jobs import label, plan, status
from gsvnet.cli.labels import compact, diff, export, report, review, show, verify, view
from gsvnet.cli.networks import adapt, average, benchmark, calibrate, convert, evaluate, models, train
from gsvnet.errors import ConfigError, GsvnetError, MissingExtra
from gsvnet.process import interrupt_on_sigterm, keep_freed_memory, yield_idle_cores
from gsvnet.terminal import printable

_EXTRA_OF = {
    "torch": "label",
    "av": "label",
    "ray": "label",
    "safetensors": "label",
    "PIL": "view",
    "matplotlib": "evaluate",
    "cv2": "evaluate",
    "psutil": "benchmark",
    "duckdb": "query",
    "pycocotools": "export",
    "bokeh": "view",
    "jinja2": "view",
    "markupsafe": "view",
    "starlette": "view",
    "uvicorn": "view",
}

_RESUMED = ("label", "compact", "export", "train", "adapt")  # where what is done is kept

COMMANDS: dict[str, Callable[..., int]] = {
    "label": label,
    "plan": plan,
    "status": status,
    "show": show,
    "report": report,
    "view": view,
    "review": review,
    "verify": verify,
    "compact": compact,
    "diff": diff,
    "export": export,
    "models": models,
    "convert": convert,
    "average": average,
    "train": train,
    "adapt": adapt,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "benchmark": benchmark,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 complete, 3 complete with failures, 2 bad arguments, 1 anything else."""
    yield_idle_cores()
    keep_freed_memory()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # so that --model package.module:factory finds the user's own code
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--version"]:
        print(f"gsvnet {__version__}")
        return 0
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        return _fail(ConfigError(f"no command {given[0]!r}{_guess(given[0])}; gsvnet --help lists them"))
    try:
        with interrupt_on_sigterm():
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                args=given,
                prog="gsvnet",
                description="Label every frame of very long videos.",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        return _fail(MissingExtra(error.name or "", extra))
    except GsvnetError as error:
        return _fail(error)
    except BrokenPipeError:  # what reads the output has seen enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again as it ends
        return 1
    except KeyboardInterrupt:
        goes_on = "; the same command goes on where it stopped" if given and given[0] in _RESUMED else ""
        print(f"gsvnet: interrupted{goes_on}", file=sys.stderr)
        return 1


def _guess(command: str) -> str:
    alike = difflib.get_close_matches(command, COMMANDS, n=1)
    return f" (did you mean {alike[0]}?)" if alike else ""


def _fail(error: GsvnetError) -> int:
    print(f"gsvnet: {printable(str(error))}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1
