import pytest
from rich.console import Console

from gsvnet.training import record as module
from gsvnet.training.record import TrainingRecord
from gsvnet.training.state import append_log


@pytest.fixture
def clock(hold_clock):
    return hold_clock(module)


@pytest.fixture
def curves(monkeypatch):
    """Which epochs each drawing of the curves showed."""
    drawn = []
    monkeypatch.setattr(module, "draw_curves", lambda records, *_, **__: drawn.append([r["epoch"] for r in records]))
    return drawn


@pytest.fixture
def show(tmp_path, clock, curves):
    """show(epochs, seconds=, drawing_s=): titles of the validation pictures of a training of 10 epochs."""

    def run(epochs, *, seconds, drawing_s=0.0, stop=None):
        titles = []

        def draw(network, path, title):
            clock.now += drawing_s
            titles.append(title)

        quiet = Console(quiet=True)
        with TrainingRecord(tmp_path, unit="epoch", total=10, title="k", console=quiet, draw=draw) as record:
            for epoch in epochs:
                clock.now += seconds
                append_log(tmp_path, {"epoch": epoch, "loss": 1.0})
                record.add({"epoch": epoch, "loss": 1.0})
                record.look(epoch, None)
                if epoch == stop:
                    raise KeyboardInterrupt
        return titles

    return run


def test_long_epochs_are_all_drawn(show, curves):
    assert show([1, 2, 3], seconds=60) == [f"k, epoch {i} of 10" for i in (1, 2, 3)]
    assert curves == [[1], [1, 2], [1, 2, 3]]


def test_short_epochs_are_drawn_every_ten_seconds_and_at_the_end(show, curves):
    titles = show(range(1, 11), seconds=4)
    assert titles == [f"k, epoch {i} of 10" for i in (1, 4, 7, 10)]
    assert [epochs[-1] for epochs in curves] == [1, 4, 7, 10]


def test_slow_drawing_waits_until_it_is_a_twentieth_of_the_time(show):
    assert show(range(1, 10), seconds=30, drawing_s=6) == [f"k, epoch {i} of 10" for i in (1, 5, 9)]


def test_the_last_records_are_in_the_curves(show, curves):
    show([1, 2], seconds=1)
    assert curves == [[1], [1, 2]]


def test_the_curves_of_a_resumed_training_go_on(show, curves):
    show([1, 2], seconds=60)
    show([3], seconds=60)
    assert curves[-1] == [1, 2, 3]


def test_a_finished_training_is_not_drawn_again(show, curves):
    assert show([], seconds=1) == []
    assert curves == []


def test_an_interrupted_training_stops_without_drawing(show, curves):
    with pytest.raises(KeyboardInterrupt):
        show([1, 2], seconds=1, stop=2)
    assert curves == [[1]]
