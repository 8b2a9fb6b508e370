"""What became of the frames of a damaged video, by comparison with the sound one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.damage.catalogue import DamagedVideo
from tests.damage.look import Look, Seen

MOST_MIB, MOST_SECONDS = 2048, 60


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """counts: frames of the sound clip by what became of them; became: the same by pts;
    broken: promises that were not kept.

    missing: no row has its pts. lost: a row without a picture. damaged: with a picture that the decoder found damaged
    (spared: it is not). right: the sound picture. silent: another picture with status ok; wrong: which even shows
    another number. outside_...: of frames on which the damage has no bearing. invented: rows with a pts of their own.
    uneven: pieces told something else than one go.
    """

    video: DamagedVideo
    look: Look
    counts: Counter[str] = field(default_factory=Counter)
    became: dict[int, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()


def judge(video: DamagedVideo, look: Look, sound: dict[int, Seen]) -> Verdict:
    """Compare by pts. Outside the damage a picture with status ok has to be the sound one, pixel by pixel."""
    counts: Counter[str] = Counter()
    became: dict[int, str] = {}
    broken = []
    if look.crash:
        broken.append(f"crashed: {look.crash.strip().splitlines()[-1]}")
    if look.peak_mib > MOST_MIB:
        broken.append(f"took {look.peak_mib} MiB")
    for pts, expected in sound.items() if not (look.refused or look.crash) else ():
        found, piece = look.frames.get(pts), look.in_pieces.get(pts)
        what, outside = _compare(found, expected), pts not in video.inside
        counts[what] += 1
        became[pts] = what
        counts["frames"] += 1
        if what in ("silent", "wrong") and outside:
            broken.append(f"frame {expected[1]} at pts {pts} is {what}: shows {found and found[1]}")
        elif outside and what != "right":
            counts[f"outside_{what}"] += 1
        if found != piece:
            counts["uneven"] += 1
            if outside:
                broken.append(f"frame {expected[1]} at pts {pts}: {found} in one go, {piece} in pieces")
    counts["invented"] = len(look.frames.keys() - sound.keys())
    return Verdict(video=video, look=look, counts=counts, became=became, broken=tuple(broken))


def _compare(found: Seen | None, expected: Seen) -> str:
    if found is None:
        return "missing"
    status, number, digest = found
    if status == "decode_error":
        return "lost"
    same = digest == expected[2]
    if status == "damaged":
        return "spared" if same else "damaged"
    return "right" if same else "silent" if number == expected[1] else "wrong"
