"""Drawn street scenes: video of any length and size with exactly known labels and flow, in CamVid's classes."""

from gsvnet.synthetic.scene import SceneConfig, SceneFrame, StreetScene

__all__ = ["SceneConfig", "SceneFrame", "StreetScene"]
