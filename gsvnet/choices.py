"""Choices that several rooms share, the command line among them: nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

References = Literal["before", "nearest", "both"]
"""Which keyframes a frame of AR-Seg draws on: the one before it, the nearer one, or both."""

MotionSource = Literal["codec", "proxy"]
"""Where motion comes from: the video's own codec, or a small encode that is made for it."""

MotionWish = Literal["auto", "codec", "proxy"]
"""What is asked for: "auto" is the codec's where it can be trusted."""
