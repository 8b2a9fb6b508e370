"""Choices that several rooms share, the command line among them: nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

References = Literal["none", "before", "nearest", "both"]
"""What a frame draws on. GSVNet: the keyframe before it, or both. AR-Seg: also the nearer one. TDNet: the frames just
before it, of each other sub-network the nearest frame, the frames on both sides, or none: each sub-network alone."""

FrameStatus = Literal["ok", "damaged", "decode_error"]
"""What became of a frame: damaged where the decoder met damage in it, or in what it or its labels are made from."""

Propagation = Literal["forward", "two-sided"]
"""From which keyframes labels are carried to a frame: from the one before it, or from the one behind it too."""

Ensemble = Literal["none", "keyframes", "all"]
"""Which frames all of TDNet's sub-networks label, not only the one whose turn it is: none, those that begin a chunk, or
every one."""

MotionSource = Literal["codec", "proxy"]
"""Where motion comes from: the video's own codec, or a small encode that is made for it."""

MotionWish = Literal["auto", "codec", "proxy"]
"""What is asked for: "auto" is the codec's where it can be trusted."""
