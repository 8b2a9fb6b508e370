"""gsvnet labels every frame of very long videos. Importing it is light; torch and Ray load when they are used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
    from gsvnet.errors import ConfigError, GsvnetError, StoreError, VideoError
    from gsvnet.labeling.config import LabelConfig
    from gsvnet.labeling.job import label
    from gsvnet.models.checkpoints import load_model
    from gsvnet.models.segmenter import PerFrame, VideoSegmenter
    from gsvnet.reading.torch_dataset import LabelDataset
    from gsvnet.store.read import open_labels

__version__ = "0.1.0"

_HOMES = {
    "CAMVID": "gsvnet.classes",
    "CITYSCAPES": "gsvnet.classes",
    "ClassSet": "gsvnet.classes",
    "ConfigError": "gsvnet.errors",
    "GsvnetError": "gsvnet.errors",
    "LabelConfig": "gsvnet.labeling.config",
    "LabelDataset": "gsvnet.reading.torch_dataset",
    "PerFrame": "gsvnet.models.segmenter",
    "StoreError": "gsvnet.errors",
    "VideoError": "gsvnet.errors",
    "VideoSegmenter": "gsvnet.models.segmenter",
    "label": "gsvnet.labeling.job",
    "load_model": "gsvnet.models.checkpoints",
    "open_labels": "gsvnet.store.read",
}
_EXTRAS = {"torch": "label", "av": "label", "ray": "label", "safetensors": "label", "PIL": "view", "duckdb": "query"}

__all__ = [
    "CAMVID",
    "CITYSCAPES",
    "ClassSet",
    "ConfigError",
    "GsvnetError",
    "LabelConfig",
    "LabelDataset",
    "PerFrame",
    "StoreError",
    "VideoError",
    "VideoSegmenter",
    "label",
    "load_model",
    "open_labels",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gsvnet' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        from gsvnet.errors import MissingExtra

        raise MissingExtra(error.name or "", extra) from error


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
