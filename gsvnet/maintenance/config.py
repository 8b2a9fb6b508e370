"""What verifying and compacting an output can be told. The command lines are generated from these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from gsvnet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Check that every frame of every planned video is there exactly once and whole.

    A video that no run came to plan leaves no trace in the output, so nobody misses it.
    """

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Output folder or URI of `gsvnet label` or `gsvnet compact`."""

    quick: bool = False
    """Read the listing, the manifest and footers only: no hashes, no pages, no masks."""

    sample: int = 4
    """Masks of each shard that are decoded and counted again."""

    write: bool = False
    """Write the derived files anew if the labels are sound: _manifest.parquet, _videos.parquet, and _SUCCESS where all
    that is planned is there. A video that no run came to plan is not missed."""

    json: bool = False
    """Print JSON."""

    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""

    def __post_init__(self) -> None:
        if self.sample < 0:
            raise ConfigError(f"--sample {self.sample}: at least 0")
        if self.write and self.quick:
            raise ConfigError(
                "--write needs the whole check: the hashes that it writes vouch for bytes; leave out --quick"
            )


@dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """Copy an output into one with few large label files."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Output folder or URI of `gsvnet label`; it stays as it is."""

    to: str
    """Output folder or URI of the copy; the same command goes on with one that was interrupted."""

    target_mb: float = 256.0
    """Size of the files to aim at, in 10**6 bytes."""

    spool_dir: str | None = None
    """Local folder where files are built before they appear; default: one of yours in the temporary folder."""

    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the fsspec filesystem of `out`; credentials are better kept in the environment."""

    to_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the fsspec filesystem of --to."""

    def __post_init__(self) -> None:
        if not 0 < self.target_mb <= 4_000:
            raise ConfigError(f"--target-mb {self.target_mb:g}: above 0, at most 4,000; S3 takes 5 GiB at once")
