import pytest

from gsvnet.training import progress as module
from gsvnet.training.progress import TrainingProgress


@pytest.fixture
def clock(hold_clock):
    return hold_clock(module)


@pytest.fixture
def show(clock, make_console):
    """show(records, seconds=, terminal=): what is printed when one record comes every so many seconds."""

    def run(records, *, seconds, unit="epoch", total=10, every=1, terminal=False):
        console = make_console(force_terminal=terminal)
        with TrainingProgress(unit=unit, total=total, console=console, every=every) as progress:
            for record in records:
                clock.now += seconds
                progress.add(record)
        return console.file.getvalue()

    return run


def epochs(first, last, **more):
    return [{"epoch": i, "loss": 1 / i, **more} for i in range(first, last + 1)]


def test_a_line_says_loss_score_and_time_to_go(show):
    assert show(epochs(1, 1, held_out_miou=0.4567), seconds=60) == (
        "epoch 1/10: loss 1.0000 · held-out mIoU 45.7 % · 9:00 to go\n"
    )


def test_without_a_held_out_part_there_is_no_score(show):
    for record in ({"epoch": 2, "loss": 0.5}, {"epoch": 2, "loss": 0.5, "held_out_miou": None}):
        assert show([record], seconds=1) == "epoch 2/10: loss 0.5000 · 0:08 to go\n"


def test_a_resumed_training_counts_from_where_it_goes_on(show):
    lines = show(epochs(9, 10), seconds=100).splitlines()
    assert lines == ["epoch 9/10: loss 0.1111 · 1:40 to go", "epoch 10/10: loss 0.1000 · 3:20 in this run"]


def test_steps_come_many_at_a_time(show):
    records = [{"step": step, "loss": 1.0} for step in (120, 140)]
    lines = show(records, seconds=20, unit="step", total=200, every=20).splitlines()
    assert [line.rpartition(" · ")[2] for line in lines] == ["1:20 to go", "1:00 to go"]


def test_short_epochs_do_not_flood_a_log(show):
    lines = show(epochs(1, 10), seconds=4).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {i}/10" for i in (1, 4, 7, 10)]


def test_a_terminal_has_a_bar_and_keeps_one_line(show):
    text = show(epochs(1, 10, held_out_miou=0.5), seconds=60, terminal=True)
    assert "training" in text
    assert text.count("epoch 10/10: loss 0.1000 · held-out mIoU 50.0 % · 10:00 in this run") == 1
    assert "epoch 1/10" not in text
