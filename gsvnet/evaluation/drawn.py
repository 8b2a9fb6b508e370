"""Drawn streets as clips with exact labels: standing and fast drives side by side, each a clip of its own.

Between two drives lies a cut, and a job begins a chunk at a cut: so nothing is carried from one clip to the next. No
codec has touched the images. Streets are others than those of training, of tests and of the demo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import Progress

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.dataset import Clip, Frame, LabelIds, ScoredClips, import_pillow
from gsvnet.evaluation.drawn_config import ClipOptions, DrawnOptions
from gsvnet.synthetic import SceneConfig, StreetScene

_FIRST_SEED = 400_000
_STANDING_M_S = 1e-6  # a drive needs some speed


@contextmanager
def open_clips(options: ClipOptions, *, console: Console) -> Iterator[ScoredClips]:
    """CamVid's val clip or drawn streets, with all frames scored; open while they are read.

    Raises ConfigError as `open_camvid` and `draw_clips` do.
    """
    if options.root is not None:
        yield open_camvid(options.root, "val", keyframe_interval=1)
        return
    with draw_clips(options.drawn, keyframe_interval=1, console=console) as data:
        yield data


@contextmanager
def draw_clips(options: DrawnOptions, *, keyframe_interval: int, console: Console) -> Iterator[ScoredClips]:
    """Clips of drawn streets, with a bar while they are drawn; gone when it closes, unless a folder keeps them.

    Raises ConfigError for intervals longer than the clips, and for files that cannot be written.
    """
    with TemporaryDirectory() as temporary:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("drawing streets", total=options.scenes * options.frames)
            folder = options.folder or Path(temporary)
            data = open_drawn(options, folder, keyframe_interval=keyframe_interval, on_frame=lambda: bar.advance(task))
        yield data


def open_drawn(
    options: DrawnOptions, folder: Path, *, keyframe_interval: int, on_frame: Callable[[], None] = lambda: None
) -> ScoredClips:
    """Clips of drawn streets, each frame from keyframe_interval - 1 on scored; drawn into `folder` as far as missing.

    on_frame: called when a frame is there. Raises ConfigError as `draw_clips` does.
    """
    if keyframe_interval > options.frames:
        raise ConfigError(f"keyframe interval {keyframe_interval} is more than the clips' {options.frames} frames")
    clips = []
    for number in range(options.scenes):
        config = _configure(options, number)
        drive = folder / f"street-{config.seed}-{options.size}-{_speed(options, number):g}ms"
        frames = []
        for frame in draw_frames(config, range(options.frames), drive):
            frames.append(frame)
            on_frame()
        scored = tuple(range(keyframe_interval - 1, options.frames))
        clips.append(Clip(name=drive.name, frames=tuple(frames), scored=scored))
    speeds = ", ".join(f"{speed:g}" for speed in options.speeds)
    return ScoredClips(
        dataset="drawn",
        split=f"{options.scenes} streets of {options.frames} frames at {speeds} m/s",
        classes=CAMVID,
        clips=tuple(clips),
        keyframe_interval=keyframe_interval,
        step_ms=1000 / SceneConfig.fps,
    )


def draw_frames(config: SceneConfig, indices: Iterable[int], folder: Path) -> Iterator[Frame]:
    """These frames of a street as files in `folder`, which is made if needed; those that are there stay as they are.

    Raises ConfigError where files cannot be written.
    """
    scene, images = StreetScene(config), import_pillow()
    ids = LabelIds(classes={i: i for i in range(len(CAMVID))}, allowed=f"0..{len(CAMVID) - 1}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index in indices:
            image, labels = folder / f"{index:06d}.png", folder / f"{index:06d}-labels.png"
            if not labels.exists():  # it comes last
                for path, pixels in ((image, scene.image(index)), (labels, scene.labels(index))):
                    partial = path.with_name(f".{path.name}")
                    images.fromarray(pixels).save(partial, format="png", compress_level=1)
                    partial.replace(path)
            yield Frame(image=image, labels=labels, ids=ids)
    except OSError as error:
        raise ConfigError(f"cannot draw into {folder}: {error.strerror or error}") from error


def _speed(options: DrawnOptions, number: int) -> float:
    return options.speeds[number % len(options.speeds)]


def _configure(options: DrawnOptions, number: int) -> SceneConfig:
    """What to draw of a street; a car that stands does not shake."""
    height, width = options.height_width
    speed = _speed(options, number)
    return SceneConfig(
        height=height,
        width=width,
        seed=_FIRST_SEED + number,
        speed_m_s=max(speed, _STANDING_M_S),
        shake=1.0 if speed else 0.0,
    )
