from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError, StoreError
from gsvnet.store.layout import SUCCESS, derived_uri
from gsvnet.store.publish import publish_bytes
from gsvnet.viewing import report as report_module
from gsvnet.viewing.commands import report
from gsvnet.viewing.config import ReportConfig
from gsvnet.viewing.report import MAX_BYTES
from tests.viewing.conftest import Output, drifted

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def page_of(make_console):
    """page_of(out, **options): the report's HTML, without Bokeh's own script."""

    def make(out: str, **options) -> str:
        assert report(ReportConfig(out=out, **options), make_console()) == 0
        page = (Path(out) / "_report.html").read_text()
        assert len(page.encode()) <= MAX_BYTES
        return re.sub(r"<script>\n.*?</script>", "", page, flags=re.DOTALL)

    return make


def text_of(page: str) -> str:
    """What a reader sees: without tags, spaces as one."""
    body = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_page_tells_the_facts_of_the_output(troubled, page_of):
    text = text_of(page_of(troubled.out))
    for words in (
        "2 shards without labels 2 given up",
        "videos 2 frames 50 of video 5.0 s frames lost 2 frames without labels 40",
        "model hash aaaaaaaaaaaa",
        "keyframe interval 5",
        "computed in fp32 on cpu, decoded by cpu",
        "drive-0123456789ab, shard 000001 DecodeError decoding stopped (3 attempts)",
        "0:02.0 to 0:04.0: shard 000001 failed: DecodeError: decoding stopped",
        "0:06.0 to 0:08.0: shard 000003: 20 frames without labels yet",
        "0:00.4 to 0:00.6: 2 frames lost, from frame 4",
        "All pictures show labels alone, as the source could not be read: /videos/drive.mp4: nothing there",
        "given up: DecodeError",
    ):
        assert words in text, words


def test_a_complete_output_and_its_run(labeled, page_of):
    text = text_of(page_of(labeled, thumbnails=4))
    assert "complete" in text
    assert "100 frames in 20.0 s: 5.0 frames/s (0.50x realtime) on 1 x cpu, fp32." in text
    assert "held the run up" in text
    assert "labels alone" not in text


def test_drift_is_told_drawn_and_pictured_where_it_was_measured(output, page_of):
    output.write("calm-ba9876543210")
    output.write(change=drifted(10))
    page = page_of(output.out, thumbnails=8)
    text = text_of(page)
    assert "drift 0.132, most 0.500" in text
    assert "frame 14 confidence 0.86, drift 0.500" in text
    assert page.count("chart tall") == page.count('figure class="by-drift"') - 1 == 1
    assert "chunks that drifted most" in text


def test_without_drift_the_page_has_no_word_of_it(troubled, page_of):
    assert "drift" not in text_of(page_of(troubled.out))


def test_names_from_the_input_are_text_wherever_they_stand(tmp_path, page_of):
    classes = replace(CAMVID, name=EVIL, names=(EVIL, *CAMVID.names[1:]))
    output = Output(tmp_path / "out", classes)
    output.write(uri=f"/videos/{EVIL}'\".mp4")
    output.plan("drive-0123456789ab", [(0, 20), (20, 20)])
    output.fail("drive-0123456789ab", "000001", EVIL)
    page = page_of(output.out)
    assert EVIL not in page
    assert "alert(1)" in text_of(page)


def test_only_some_videos_are_shown_those_with_trouble_first(output, page_of):
    for number in range(4):
        output.write(f"video-{number}-0123456789ab", lost=[3] if number == 2 else [])
    page = page_of(output.out, max_videos=2)
    assert re.findall(r"<h2>(video-\d)", page) == ["video-2", "video-0"]
    assert "2 of 4, those with trouble first" in page
    assert page.count('<td class="name">') == 4


def test_a_long_table_is_cut_and_says_so(output, page_of, monkeypatch):
    monkeypatch.setattr("gsvnet.viewing.overview.MAX_ROWS", 2)
    for number in range(5):
        output.write(f"video-{number}-0123456789ab", num_frames=2)
    page = page_of(output.out, max_videos=0)
    assert page.count('<td class="name">') == 2
    assert "3 more videos are not shown" in page


@pytest.mark.slow
def test_many_videos_and_classes_still_make_a_small_page(output, page_of, monkeypatch):
    monkeypatch.setattr(report_module, "MAX_BYTES", 1_450_000)  # 1.27 MB are Bokeh
    monkeypatch.setattr(report_module, "_CHARTS_BYTES", 100_000)
    for number in range(6):
        output.write(f"video-{number}-0123456789ab", num_frames=100)
    page_of(output.out, max_videos=6)
    assert (Path(output.out) / "_report.html").stat().st_size <= 1_450_000


def test_many_gaps_with_long_messages_still_make_a_small_page(output, page_of, monkeypatch):
    limit = 1_270_000 + 100_000  # Bokeh, and the rest
    monkeypatch.setattr(report_module, "MAX_BYTES", limit)
    monkeypatch.setattr(report_module, "_PICTURES_BYTES", 20_000)
    shards = [(2 * i, 2) for i in range(60)]
    for number, (first, num) in enumerate(shards):
        if number % 2:
            output.fail("drive-0123456789ab", f"{number:06d}", "decoding stopped " * 100)
        else:
            output.write(shard=number, first_frame=first, num_frames=num)
    output.plan("drive-0123456789ab", shards)
    assert "<img" in page_of(output.out, thumbnails=40)
    assert (Path(output.out) / "_report.html").stat().st_size <= limit


def test_an_output_without_labels_is_a_page_too(output, page_of):
    assert "No labels yet" in page_of(output.out)


def test_without_pictures_there_is_no_strip(output, page_of):
    output.write()
    page = page_of(output.out, thumbnails=0)
    assert "<img" not in page
    assert "labels alone" not in page


def test_charts_are_json_that_no_name_ends_early(output, page_of):
    output.write()
    (chart,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page_of(output.out), re.DOTALL)
    assert "<" not in chart
    assert json.loads(chart)["root_id"]


def test_the_report_of_an_output_is_replaced(output, page_of):
    output.write()
    page_of(output.out)
    publish_bytes(b"", derived_uri(output.out, SUCCESS))
    assert "complete" in text_of(page_of(output.out))


def test_a_named_file_is_replaced_only_when_told(output, tmp_path, make_console):
    output.write()
    target = tmp_path / "page.html"
    config = ReportConfig(out=output.out, to=str(target), thumbnails=0)
    console = make_console()
    assert report(config, console) == 0
    assert console.file.getvalue() == f"{target}: 1.3 MB\n"
    target.write_text("mine")
    with pytest.raises(ConfigError, match=r"page\.html exists; --overwrite replaces it"):
        report(config, make_console())
    assert target.read_text() == "mine"
    report(replace(config, overwrite=True), make_console())
    assert target.read_text().startswith("<!doctype html>")
    assert not (Path(output.out) / "_report.html").exists()


def test_a_folder_is_no_target(output, tmp_path, make_console):
    with pytest.raises(ConfigError, match="is a folder; name a file in it"):
        report(ReportConfig(out=output.out, to=str(tmp_path), overwrite=True), make_console())


def test_what_is_no_output_is_a_store_error(tmp_path, make_console):
    with pytest.raises(StoreError, match=r"no _job\.json"):
        report(ReportConfig(out=str(tmp_path)), make_console())


@pytest.mark.slow
@pytest.mark.s3
def test_the_report_of_an_output_in_a_bucket_is_written_there(troubled, moto_s3, make_console):
    import s3fs

    fs = s3fs.S3FileSystem(**moto_s3.options)
    out = f"s3://{moto_s3.make_bucket()}/out"
    fs.put(troubled.out, out, recursive=True)
    console = make_console()
    assert report(ReportConfig(out=out, storage_options=moto_s3.options), console) == 0
    assert console.file.getvalue().startswith(f"{out}/_report.html: 1.")
    page = fs.cat_file(f"{out}/_report.html").decode()
    assert "2 shards without labels" in page
    assert moto_s3.secret not in page
