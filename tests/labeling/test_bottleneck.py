from __future__ import annotations

import pytest

from gsvnet.labeling.bottleneck import STAGES, describe_load, measure_load


def load(*, threads=8, core_s=20.0, device="cuda", **seconds):
    """Of one worker that was at work for 10 s."""
    return measure_load(seconds | {"total": 10.0}, {"total": core_s}, threads=threads, device=device)


def test_what_the_process_used_beyond_its_stages_belongs_to_the_networks():
    cores = {"decode": 2.0, "segment": 3.0, "upsample": 1.0, "encode": 1.0, "write": 0.5, "total": 19.0}
    found = measure_load({"total": 10.0}, cores, threads=2, device="cpu")
    assert found.cores == pytest.approx(0.95)
    assert found.by_stage == pytest.approx(
        {"decode": 0.1, "segment": 0.725, "upsample": 0.05, "encode": 0.05, "write": 0.025}
    )


def test_busy_cores_are_the_limit_even_if_a_stage_waits_for_them_all_the_time():
    cores = {"upsample": 12.0, "segment": 5.0, "total": 19.0}
    found = measure_load({"segment": 9.9, "total": 10.0}, cores, threads=2, device="cpu")
    assert (found.cores_limit, found.limit, found.limit_share) == (True, "upsample", pytest.approx(0.6))


@pytest.mark.parametrize(
    ("seconds", "limit", "share"),
    [
        ({"decode": 9.5, "segment": 6.0, "upsample": 20.0}, "decode", 0.95),  # 20 s of 8 threads are a quarter
        ({"decode": 5.0, "segment": 9.0, "upsample": 70.0}, "segment", 0.9),
        ({"decode": 5.0, "segment": 7.0, "upsample": 79.0}, "upsample", 0.9875),
    ],
)
def test_with_cores_to_spare_a_stage_is_measured_against_its_own_threads(seconds, limit, share):
    found = load(**seconds)
    assert (found.cores_limit, found.limit, found.limit_share) == (False, limit, pytest.approx(share))


def test_the_report_says_what_would_help():
    lines = describe_load(load(decode=9.5, segment=6.0), device="cuda")
    assert lines["limit"] == "decode; faster with more --cpus-per-actor"
    assert lines["busy"] == "decode 95 % · segment 60 % · upsample 0 % · encode 0 % · write 0 % (cores 25 %)"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_where_no_stage_is_busy_the_gaps_are_the_limit(device):
    text = describe_load(load(segment=6.0, device=device), device=device)["limit"]
    assert text.startswith("no stage; faster with longer --shard-seconds")
    assert ("--gpus-per-actor 0.5" in text) == (device == "cuda")


@pytest.mark.parametrize(
    ("device", "seconds", "advice"),
    [
        ("cpu", {"segment": 44.0, "upsample": 20.0, "encode": 12.0}, "segment; faster with a longer --keyframe-inter"),
        ("cuda", {"segment": 6.0, "upsample": 36.0, "encode": 36.0}, "upsample; faster with more --cpus-per-actor"),
    ],
)
def test_stages_that_share_their_threads_are_the_limit_together(device, seconds, advice):
    """Of 80 s of eight threads."""
    assert describe_load(load(**seconds, device=device), device=device)["limit"].startswith(advice)


@pytest.mark.parametrize(("device", "seconds", "advice"), [("cpu", 72.0, "more cores"), ("cuda", 9.0, "more GPUs")])
def test_busy_networks_want_more_of_what_they_run_on(device, seconds, advice):
    """On a CPU all eight threads run networks, on a GPU one thread waits for them."""
    assert advice in describe_load(load(segment=seconds, device=device), device=device)["limit"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_advice(stage):
    for threads in (1, 100):
        found = measure_load(
            {stage: 1000.0, "total": 10.0}, {stage: 10.0, "total": 10.0}, threads=threads, device="cpu"
        )
        assert f"{stage}; faster with " in describe_load(found, device="cpu")["limit"]


def test_nothing_done_has_no_limit():
    assert describe_load(measure_load({}, {}, threads=2, device="cpu"), device="cpu") == {}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("basis", ["itself", "neighbours"])
def test_networks_without_propagation_are_not_told_to_take_fewer_keyframes(device, basis):
    busy = load(segment=72.0, device=device)
    assert "--keyframe-interval" in describe_load(busy, device=device)["limit"]
    assert "--keyframe-interval" not in describe_load(busy, device=device, basis=basis)["limit"]
