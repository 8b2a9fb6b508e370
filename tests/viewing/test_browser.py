"""Both pages in a real Chromium: what they draw, what they say, what they ask the network for."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from gsvnet.store.read import open_labels
from gsvnet.viewing.commands import listen, report
from gsvnet.viewing.config import ReportConfig
from gsvnet.viewing.frames import FrameReader
from tests.outputs import wait_until

NARROW = {"width": 420, "height": 900}


def report_of(out: str, path, make_console, **options) -> str:
    assert report(ReportConfig(out=out, to=str(path), **options), make_console()) == 0
    return path.as_uri()


def wait_until_drawn(page) -> None:
    page.wait_for_selector("body[data-drawn=yes]", state="attached")


def overflow_px(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def hover(page, share: float) -> None:
    """Move the mouse over the first timeline, at a share of its width."""
    chart = page.locator(".chart, #timeline").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + 60 + share * (box["width"] - 80), box["y"] + 60)


# --- report ---------------------------------------------------------------------------------------------------------


def test_the_report_needs_no_network_and_the_console_stays_empty(labeled, tmp_path, make_console, open_page):
    url = report_of(labeled, tmp_path / "page.html", make_console)
    watched = open_page(url)
    wait_until_drawn(watched.page)
    assert watched.page.locator(".chart canvas").count() >= 2
    assert [request for request in watched.requests if not request.startswith("data:")] == [url]
    assert watched.complaints == []


def test_hovering_shows_time_classes_and_the_nearest_picture(labeled, tmp_path, make_console, open_page):
    page = open_page(report_of(labeled, tmp_path / "page.html", make_console)).page
    wait_until_drawn(page)
    hover(page, 0.5)
    box = page.locator(".bk-tooltip-content")
    box.wait_for()
    text = box.inner_text()
    assert re.search(r"nearest picture: frame (\d+)", text)
    assert re.search(r"0:0[01]\.\d frame (19|20|21)", text)
    assert "confidence 0." in text
    picture = box.locator("div[style*='--picture']").evaluate("e => getComputedStyle(e).backgroundImage")
    shown = page.locator("img[data-name]").evaluate_all("images => images.map((i) => i.src)")
    assert picture.removeprefix('url("').removesuffix('")') in shown


@pytest.mark.parametrize("size", [pytest.param({}, marks=pytest.mark.slow), NARROW])
def test_the_report_fits_the_window(troubled, tmp_path, make_console, open_page, size):
    page = open_page(report_of(troubled.out, tmp_path / "page.html", make_console), **size).page
    wait_until_drawn(page)
    assert overflow_px(page) <= 0


@pytest.mark.slow
def test_the_table_sorts_by_a_click(troubled, tmp_path, make_console, open_page):
    page = open_page(report_of(troubled.out, tmp_path / "page.html", make_console)).page
    wait_until_drawn(page)
    names = page.locator("table.table td.name")
    page.get_by_role("button", name="frames", exact=True).click()
    assert [name[:5] for name in names.all_inner_texts()] == ["broke", "sound", "drive"]
    page.get_by_role("button", name="frames", exact=True).click()
    assert [name[:5] for name in names.all_inner_texts()] == ["drive", "sound", "broke"]


def test_hostile_names_run_nothing(tmp_path, make_console, open_page):
    from dataclasses import replace

    from gsvnet.classes import CAMVID
    from tests.viewing.conftest import Output

    evil = "<img src=x onerror=document.title='evil'>'\""
    output = Output(tmp_path / "out", replace(CAMVID, names=(evil, *CAMVID.names[1:])))
    output.write(uri=f"/videos/{evil}.mp4")
    watched = open_page(report_of(output.out, tmp_path / "page.html", make_console))
    wait_until_drawn(watched.page)
    hover(watched.page, 0.5)
    watched.page.locator(".bk-tooltip-content").wait_for()
    assert evil in watched.page.locator(".bk-tooltip-content").inner_text()
    assert "evil" not in watched.page.title()
    with serving(output.out) as url:
        viewed = open_page(url)
        wait_for_frame(viewed.page, 0)
        viewed.page.wait_for_selector("body[data-timeline]", state="attached")
        hover(viewed.page, 0.5)
        viewed.page.locator(".bk-tooltip-content").wait_for()
        assert "evil" not in viewed.page.title()
        assert evil in viewed.page.locator("#classes").inner_text()


# --- view -----------------------------------------------------------------------------------------------------------


@contextmanager
def serving(out: str):
    """The viewer of an output, served by a thread; its address."""
    import uvicorn

    from gsvnet.viewing.server import Viewer, make_app

    labels = open_labels(out)
    app = make_app(Viewer(labels=labels, frames=FrameReader(labels)), ["localhost", "127.0.0.1"])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(labeled):
    with serving(labeled) as url:
        yield url


@pytest.fixture
def watched(address, open_page):
    watched = open_page(address)
    wait_for_frame(watched.page, 0)
    return watched


def wait_for_frame(page, index: int) -> None:
    page.wait_for_selector(f"body[data-frame='{index}']", state="attached")


def pixels_of(page) -> np.ndarray:
    """What the canvas shows, (H, W, 4) uint8."""
    url = page.evaluate("document.getElementById('screen').toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))


@pytest.fixture
def number_on(media):
    """number_on(page): the number stamped into the picture that the page shows, its labels made transparent."""

    def read(page) -> int:
        page.locator("#opacity").fill("0")
        return media.read_number(pixels_of(page)[..., :3])

    return read


def test_scrubbing_shows_the_frame_that_it_says(watched, number_on):
    page = watched.page
    for index in (17, 39, 4):
        page.locator("#frame").fill(str(index))
        wait_for_frame(page, index)
        assert number_on(page) == index
        assert f"frame {index}" in page.locator("#where").inner_text()
    assert watched.complaints == []


@pytest.mark.slow
def test_keys_move_and_stay_inside_the_video(watched, number_on):
    page = watched.page
    for key, index in (
        ("ArrowRight", 1), ("Shift+ArrowRight", 11), ("ArrowLeft", 10), ("End", 39), ("ArrowRight", 39), ("Home", 0),
    ):  # fmt: skip
        page.keyboard.press(key)
        wait_for_frame(page, index)
    assert number_on(page) == 0


def test_fast_scrubbing_ends_at_the_last_wish_without_asking_for_all(watched, number_on):
    page = watched.page
    before = len(watched.requests)
    page.evaluate(
        """() => { for (let i = 1; i < 40; i++) {
            document.getElementById("frame").value = i;
            document.getElementById("frame").dispatchEvent(new Event("input"));
        } }"""
    )
    wait_for_frame(page, 39)
    assert number_on(page) == 39
    assert len(watched.requests) - before <= 9  # three for each of a few frames


@pytest.mark.slow
def test_playing_goes_on_until_paused(watched):
    page = watched.page
    page.keyboard.press("Space")
    wait_until(lambda: int(page.locator("body").get_attribute("data-frame")) > 3)
    page.keyboard.press("Space")
    assert page.locator("#play").get_attribute("aria-pressed") == "false"


def test_switching_a_class_off_and_on_changes_its_pixels_only(watched, labeled):
    page = watched.page
    labels = open_labels(labeled)
    ids = np.kron(labels.labels_at(labels.videos[0], [0])[0], np.ones((4, 4), np.uint8))  # as large as the picture
    largest = int(np.bincount(ids.ravel()).argmax())
    shown = pixels_of(page)
    page.locator(f"#class-{largest}").uncheck()
    changed = (pixels_of(page) != shown).any(axis=2)
    assert changed[ids == largest].mean() > 0.5
    assert not changed[ids != largest].any()
    page.locator("#all").click()
    np.testing.assert_array_equal(pixels_of(page), shown)
    page.locator("#opacity").fill("100")
    np.testing.assert_array_equal(pixels_of(page)[..., :3], labels.classes.colourise(ids))


def test_a_query_lists_frames_and_a_click_goes_there(watched, number_on):
    page = watched.page
    page.locator("#where-sql").fill("frame_index in (5, 21)")
    page.locator("#where-sql").press("Enter")
    page.locator("#hits button").nth(1).wait_for()
    assert page.locator("#found").inner_text() == "2 frames"
    page.locator("#hits button").nth(1).click()
    wait_for_frame(page, 21)
    assert number_on(page) == 21


@pytest.mark.slow
def test_a_bad_query_says_what_is_wrong(watched):
    page = watched.page
    page.locator("#where-sql").fill("pixels.unicorn > 3")
    page.get_by_role("button", name="Find").click()
    page.locator("#found.trouble").wait_for()
    assert "unicorn" in page.locator("#found").inner_text()


def test_a_click_on_the_timeline_goes_there(watched, number_on):
    page = watched.page
    page.wait_for_selector("body[data-timeline]", state="attached")
    hover(page, 0.5)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("body:not([data-frame='0'])", state="attached")
    index = int(page.locator("body").get_attribute("data-frame"))
    assert 17 <= index <= 23
    assert number_on(page) == index


def test_the_reference_and_the_command_can_be_copied(watched, labeled):
    page = watched.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("ArrowRight")
    wait_for_frame(page, 1)
    page.get_by_role("button", name="Copy reference").click()
    page.get_by_text("reference copied").wait_for()
    reference = page.evaluate("navigator.clipboard.readText().then(JSON.parse)")
    video = open_labels(labeled).videos[0]
    assert (reference["video"], reference["frame_index"], set(reference)) == (
        video, 1, {"video", "frame_index", "pts", "time_s", "uri"},
    )  # fmt: skip
    page.get_by_role("button", name="Copy command").click()
    page.get_by_text("command copied").wait_for()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == f"gsvnet show {labeled} --video {video} --frame 1"


@pytest.mark.slow
def test_an_address_leads_back_to_its_frame(watched, open_page, number_on):
    watched.page.locator("#frame").fill("33")
    wait_for_frame(watched.page, 33)
    again = open_page(watched.page.url)
    wait_for_frame(again.page, 33)
    assert number_on(again.page) == 33


def test_without_the_video_labels_are_shown_and_the_reason(output, open_page):
    output.write(lost=[3])
    output.write(shard=2, first_frame=40)
    with serving(output.out) as url:
        page = open_page(url).page
        wait_for_frame(page, 0)
        assert "Labels alone: /videos/drive.mp4: nothing there" in page.locator("#notice").inner_text()
        labels = open_labels(output.out)
        colours = labels.classes.colourise(labels.labels_at("drive", [0])[0])
        np.testing.assert_array_equal(pixels_of(page)[..., :3], colours)
        page.locator("#frame").fill("3")
        wait_for_frame(page, 3)
        assert "lost in decoding" in page.locator("#notice").inner_text()
        page.locator("#frame").fill("25")
        wait_for_frame(page, "25 without labels")
        assert "frame 25 has no labels" in page.locator("#notice").inner_text()


@pytest.mark.slow
def test_an_output_without_labels_says_so(output, open_page):
    with serving(output.out) as url:
        page = open_page(url).page
        page.locator("#notice").wait_for()
        assert page.locator("#notice").inner_text() == "This output holds no labels yet."


@pytest.mark.parametrize("size", [pytest.param({}, marks=pytest.mark.slow), NARROW])
def test_the_viewer_fits_the_window(address, open_page, size):
    watched = open_page(address, **size)
    wait_for_frame(watched.page, 0)
    watched.page.wait_for_selector("body[data-timeline]", state="attached")
    assert overflow_px(watched.page) <= 0
    assert watched.complaints == []
    assert all(request.startswith((address, "blob:", "data:")) for request in watched.requests)
