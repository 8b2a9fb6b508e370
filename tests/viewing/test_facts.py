from __future__ import annotations

import pytest

from gsvnet.errors import StoreError
from gsvnet.store.layout import SUCCESS, derived_uri
from gsvnet.store.publish import publish_bytes
from gsvnet.store.read import open_labels
from gsvnet.store.timeline import read_timelines
from gsvnet.viewing.facts import read_facts
from gsvnet.viewing.spans import Span, find_spans, merge_spans, thin_spans


def facts_of(output):
    return read_facts(open_labels(output.out))


def spans_of(output):
    labels, facts = open_labels(output.out), facts_of(output)
    timelines = read_timelines(labels, facts.summaries)
    return {
        video.video: [
            (span.kind, round(span.start_s, 3), round(span.end_s, 3))
            for span in find_spans(labels, video, timelines[video.video])
        ]
        for video in facts.videos
        if video.summary
    }


def test_videos_come_with_their_troubles_the_worst_first(troubled):
    drive, broken, sound = facts_of(troubled).videos
    assert [video.video for video in (drive, broken, sound)] == [
        "drive-0123456789ab", "broken-aaaaaaaaaaaa", "sound-ba9876543210",
    ]  # fmt: skip
    assert [(shard.name, shard.failure is not None) for shard in drive.missing] == [("000001", True), ("000003", False)]
    assert (len(drive.failures), drive.gap_frames, drive.summary.lost) == (1, 40, 2)
    assert (broken.summary, [failure.message for failure in broken.failures]) == (None, ["no frame"])
    assert (sound.missing, sound.failures) == ((), ())


def test_an_output_counts_its_files_bytes_and_missing_shards(troubled):
    facts = facts_of(troubled)
    assert (facts.complete, facts.num_missing, facts.num_files, len(facts.failures)) == (False, 2, 3, 2)
    assert facts.label_bytes > 1000


def test_a_complete_output_needs_no_plans(output):
    path = output.write()
    publish_bytes(b"", derived_uri(output.out, SUCCESS))
    (path.parents[2] / "_plan").mkdir()
    (path.parents[2] / "_plan" / "x.json").write_text("{}")
    assert facts_of(output).complete


def test_a_plan_of_another_version_is_named(output):
    output.write()
    (folder := output.write(shard=1, first_frame=20).parents[2] / "_plan").mkdir()
    (folder / "x.json").write_text("{}")
    with pytest.raises(StoreError, match="the stored plan of x"):
        facts_of(output)


def test_an_empty_output_has_no_videos(output):
    facts = facts_of(output)
    assert (facts.videos, facts.label_bytes, facts.complete) == ((), 0, False)


def test_spans_by_the_plan(troubled):
    assert spans_of(troubled)["drive-0123456789ab"] == [
        ("lost", 0.4, 0.6), ("failed", 2.0, 4.0), ("gap", 6.0, 8.0),
    ]  # fmt: skip


def test_spans_without_a_plan_are_gaps_between_shards(output):
    output.write(shard=1, first_frame=10, num_frames=10)
    output.write(shard=3, first_frame=30, num_frames=10)
    assert spans_of(output) == {"drive-0123456789ab": [("gap", 0.0, 1.0), ("gap", 2.0, 3.0)]}


def test_spans_of_a_kind_that_nearly_touch_are_drawn_as_one():
    spans = [
        Span(kind=kind, start_s=start, end_s=start + 1.0, text="")
        for kind, start in (("lost", 0.0), ("gap", 1.0), ("lost", 1.5), ("lost", 4.0), ("gap", 2.0))
    ]
    merged = [(span.kind, span.start_s, span.end_s) for span in merge_spans(spans, 0.6)]
    assert merged == [("lost", 0.0, 2.5), ("lost", 4.0, 5.0), ("gap", 1.0, 3.0)]


@pytest.mark.parametrize("kinds", [("lost",), ("failed", "gap")])
def test_spans_are_merged_until_there_are_few(kinds):
    spans = [Span(kind=kinds[i % len(kinds)], start_s=10.0 * i, end_s=10.0 * i + 1, text="") for i in range(500)]
    assert len(thin_spans(spans, 5000.0, 500)) == 500
    assert 40 <= len(thin_spans(spans, 5000.0, 100)) <= 102


def test_a_long_message_of_a_failure_is_shortened(output):
    output.write()
    output.plan("drive-0123456789ab", [(0, 20), (20, 20)])
    output.fail("drive-0123456789ab", "000001", "x" * 5000)
    (facts,) = facts_of(output).videos
    labels = open_labels(output.out)
    (span,) = find_spans(labels, facts, read_timelines(labels, [facts.summary])[facts.video])
    assert (len(span.text) < 200, span.text[-3:]) == (True, "xx…")
