"""Commands about labeling jobs: label, plan, status."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from gsvnet.labeling.config import LabelConfig, PlanConfig
from gsvnet.terminal import PlainConsole


def label(config: LabelConfig) -> int:
    """Label every frame of videos and write Parquet. The same command on the same output does what is missing."""
    if config.demo:
        from gsvnet.demo import label_demo

        return label_demo(config, PlainConsole())
    from gsvnet.labeling.job import label as run

    return run(config, console=PlainConsole()).exit_code


def plan(config: PlanConfig) -> int:
    """Say what `gsvnet label` would do with the same arguments: videos, frames, problems, GPU hours and price."""
    from gsvnet.labeling.preview import preview
    from gsvnet.labeling.preview_text import preview_to_dict, show_preview

    console = PlainConsole(stderr=config.json)
    result = preview(config, console=console)
    if config.json:
        print(json.dumps(preview_to_dict(result), indent=1))
    else:
        show_preview(result, console)
    return result.exit_code


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Where a job stands, from its output alone: also from another machine, while it runs or long after."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Output folder or URI of `gsvnet label`."""
    json: bool = False
    """Print JSON."""
    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""


def status(config: StatusConfig) -> int:
    """Where a job stands, from its output alone: also from another machine, while it runs or long after."""
    from gsvnet.labeling.status import read_status
    from gsvnet.labeling.status_text import show_status

    found = read_status(config.out, config.storage_options)
    if config.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        show_status(found, PlainConsole())
    return 0
