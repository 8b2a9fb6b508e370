"""Both pages in a real Chromium: what they draw, what they say, what they ask the network for."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from gsvnet.classes import CAMVID
from gsvnet.store.codec import encode_mask
from gsvnet.store.read import open_labels
from gsvnet.viewing import server
from gsvnet.viewing.commands import listen, report
from gsvnet.viewing.config import ReportConfig
from gsvnet.viewing.frames import FrameReader
from tests.outputs import wait_until
from tests.viewing.conftest import HEIGHT, WIDTH, Output, drifted

EVIL = "<img src=x onerror=document.title='evil'>'\""
WIDE, NARROW = {"width": 1600, "height": 1000}, {"width": 420, "height": 900}


def report_of(out: str, folder: Path) -> str:
    """The address of an output's report."""
    page = folder / "page.html"
    assert report(ReportConfig(out=out, to=str(page)), Console(file=io.StringIO())) == 0
    return page.as_uri()


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


@pytest.fixture(scope="module")
def labeled_page(labeled, tmp_path_factory, open_shared_page):
    """The report of `labeled`, drawn."""
    watched = open_shared_page(report_of(labeled, tmp_path_factory.mktemp("page")))
    wait_until_drawn(watched.page)
    return watched


@pytest.fixture(scope="module")
def troubled_url(troubled, tmp_path_factory) -> str:
    """The address of the report of `troubled`."""
    return report_of(troubled.out, tmp_path_factory.mktemp("page"))


def test_the_report_needs_no_network_and_the_console_stays_empty(labeled_page):
    assert labeled_page.page.locator(".chart canvas").count() >= 2
    assert [r for r in labeled_page.requests if not r.startswith("data:")] == [labeled_page.page.url]
    assert labeled_page.complaints == []


def test_hovering_shows_time_classes_and_the_nearest_picture(labeled_page):
    page = labeled_page.page
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


def test_a_report_that_gets_a_narrow_window_fits_it(labeled_page):
    page = labeled_page.page
    page.set_viewport_size(NARROW)
    wait_until(lambda: overflow_px(page) <= 0, limit_s=10)
    page.set_viewport_size(WIDE)


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_report_fits_the_window(troubled_url, open_page, size):
    page = open_page(troubled_url, **size).page
    wait_until_drawn(page)
    assert overflow_px(page) <= 0


@pytest.mark.slow
def test_the_table_sorts_by_a_click(troubled_url, open_page):
    page = open_page(troubled_url).page
    wait_until_drawn(page)
    names = page.locator("table.table td.name")
    page.get_by_role("button", name="frames", exact=True).click()
    assert [name[:5] for name in names.all_inner_texts()] == ["broke", "sound", "drive"]
    page.get_by_role("button", name="frames", exact=True).click()
    assert [name[:5] for name in names.all_inner_texts()] == ["drive", "sound", "broke"]


def test_hostile_names_run_nothing_in_the_report(several, tmp_path, open_page):
    page = open_page(report_of(several.out, tmp_path)).page
    wait_until_drawn(page)
    hover(page, 0.1)
    page.locator(".bk-tooltip-content").first.wait_for()
    assert EVIL in page.locator(".bk-tooltip-content").first.inner_text()
    assert f"/videos/{EVIL}.mp4" in page.locator("main").inner_text()
    assert "evil" not in page.title()


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


@pytest.fixture(scope="module")
def viewer(address, open_shared_page):
    """The page of `labeled`; tests use it through `watched`."""
    watched = open_shared_page(address)
    watched.page.wait_for_selector("body[data-timeline]", state="attached")
    return watched


@pytest.fixture
def watched(viewer):
    """The page of `labeled` as it is at first."""
    start_over(viewer)
    return viewer


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Output:
    """Frames 0..19 (3 lost) and 40..59 of one video, frames 0..9 of another; no source video; EVIL is a class."""
    classes = replace(CAMVID, names=(EVIL, *CAMVID.names[1:]))
    output = Output(tmp_path_factory.mktemp("several") / "out", classes)
    output.write(lost=[3])
    output.write(shard=2, first_frame=40)
    output.write("night-ba9876543210", num_frames=10, uri=f"/videos/{EVIL}.mp4")
    return output


@pytest.fixture(scope="module")
def several_page(several, open_shared_page):
    with serving(several.out) as url:
        watched = open_shared_page(url)
        watched.page.wait_for_selector("body[data-timeline]", state="attached")
        yield watched


@pytest.fixture
def two_videos(several_page):
    """The page of `several` as it is at first."""
    start_over(several_page)
    return several_page


START_OVER = """async () => {
    window.realFetch ??= fetch;
    window.realReplaceState ??= history.replaceState;
    window.fetch = realFetch;
    history.replaceState = realReplaceState;
    find("opacity").value = 55;
    find("hits").replaceChildren();
    find("copied").textContent = find("found").textContent = "";
    switchAll(true);
    document.activeElement.blur();
    delete document.body.dataset.frame;
    await goTo(state.output.videos[0], 0);
}"""


def start_over(watched) -> None:
    watched.page.bring_to_front()  # who copies must have the focus
    watched.page.mouse.move(0, 0)
    watched.page.evaluate(START_OVER)
    wait_for_frame(watched.page, 0)
    watched.complaints.clear()
    watched.requests.clear()


def hold(page, path: str) -> None:
    """From now on answers to requests of this path are kept back until `release`, failed ones too."""
    page.evaluate(
        """(held) => {
            window.letGo = new Promise((resolve) => { window.release = resolve; });
            window.fetch = async (path) => {
                const answer = await realFetch(path);
                if (path === held) await letGo;
                return answer;
            };
        }""",
        path,
    )


def release(page) -> None:
    """Let the answers come, and wait until the page has dealt with them."""
    page.evaluate("release(); new Promise((resolve) => setTimeout(resolve, 100))")


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
    page.evaluate(
        """() => { for (let i = 1; i < 40; i++) {
            document.getElementById("frame").value = i;
            document.getElementById("frame").dispatchEvent(new Event("input"));
        } }"""
    )
    wait_for_frame(page, 39)
    assert number_on(page) == 39
    assert len(watched.requests) <= 9  # three for each of a few frames


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
    watched.page.wait_for_url(re.compile("/33$"))
    again = open_page(watched.page.url)
    wait_for_frame(again.page, 33)
    assert number_on(again.page) == 33


def test_without_the_video_labels_are_shown_and_the_reason(two_videos, several):
    page = two_videos.page
    assert "Labels alone: /videos/drive.mp4: nothing there" in page.locator("#notice").inner_text()
    labels = open_labels(several.out)
    colours = labels.classes.colourise(labels.labels_at("drive", [0])[0])
    np.testing.assert_array_equal(pixels_of(page)[..., :3], colours)
    page.locator("#frame").fill("3")
    wait_for_frame(page, 3)
    assert "lost in decoding" in page.locator("#notice").inner_text()


def test_hostile_names_run_nothing_in_the_viewer(two_videos):
    page = two_videos.page
    hover(page, 0.1)
    page.locator(".bk-tooltip-content").first.wait_for()
    assert EVIL in page.locator(".bk-tooltip-content").first.inner_text()
    assert EVIL in page.locator("#classes").inner_text()
    page.evaluate("openVideo(state.output.videos[1])")
    wait_for_frame(page, 0)
    assert f"/videos/{EVIL}.mp4" in page.evaluate("JSON.stringify(state.shown.facts.reference)").replace('\\"', '"')
    assert "evil" not in page.title()


def test_nothing_of_an_earlier_frame_stays_where_there_are_no_labels(two_videos):
    page = two_videos.page
    copies = page.locator(".buttons button")
    assert [copies.nth(i).is_enabled() for i in range(2)] == [True, True]
    page.locator("#frame").fill("25")
    wait_for_frame(page, "25 without labels")
    assert "frame 25 has no labels" in page.locator("#notice").inner_text()
    assert page.locator("#where").inner_text() == "frame 25"
    assert not pixels_of(page).any()
    assert page.locator("#facts, #reference, #classes .share").all_inner_texts() == [""] * (2 + len(CAMVID))
    assert [copies.nth(i).is_enabled() for i in range(2)] == [False, False]
    page.locator("#frame").fill("40")
    wait_for_frame(page, 40)
    assert pixels_of(page).any()
    assert [copies.nth(i).is_enabled() for i in range(2)] == [True, True]


def test_an_error_in_showing_a_frame_is_said_and_the_next_one_is_shown(watched, number_on):
    page = watched.page
    page.evaluate("() => { window.realTellFrame = tellFrame; tellFrame = () => { throw new Error('out of paper'); }; }")
    page.locator("#frame").fill("5")
    page.get_by_text("out of paper").wait_for()
    page.evaluate("() => { tellFrame = realTellFrame; }")
    page.locator("#frame").fill("6")
    wait_for_frame(page, 6)
    assert number_on(page) == 6
    assert page.locator("#notice").is_hidden()
    assert watched.complaints == []


def test_a_browser_that_refuses_to_change_the_address_is_asked_seldom_and_shows_all_frames(watched, number_on):
    page = watched.page
    page.evaluate(
        """() => {
            window.numAsked = 0;
            history.replaceState = () => { numAsked++; throw new DOMException("too often", "SecurityError"); };
            for (const index of [1, 2, 3, 4]) rememberAddress(`#a/${index}`);
        }"""
    )
    wait_until(lambda: page.evaluate("numAsked") > 0)
    page.wait_for_timeout(400)
    assert page.evaluate("numAsked") == 1
    for index in range(1, 6):
        page.keyboard.press("ArrowRight")
        wait_for_frame(page, index)
    assert number_on(page) == 5
    assert watched.complaints == []


def test_a_late_answer_does_not_bring_back_a_video_that_was_left(two_videos):
    page = two_videos.page
    page.locator("#frame").fill("2")
    wait_for_frame(page, 2)
    hold(page, "/api/videos/night-ba9876543210")
    page.locator("#video").select_option("night-ba9876543210")
    page.locator("#video").select_option("drive-0123456789ab")
    wait_for_frame(page, 0)
    release(page)
    assert page.locator("#video").input_value() == "drive-0123456789ab"
    assert page.evaluate("state.video.video") == "drive-0123456789ab"
    assert "drive" in page.locator("#reference").inner_text()


@pytest.mark.parametrize("late", ["true", "pixels.unicorn > 1"])
def test_a_late_answer_does_not_replace_that_of_a_newer_query(two_videos, late):
    page = two_videos.page
    hold(page, f"/api/query?{urlencode({'where': late})}")
    for where in (late, "frame_index = 5 and video like 'drive%'"):
        page.locator("#where-sql").fill(where)
        page.locator("#where-sql").press("Enter")
    page.locator("#hits button").wait_for()
    release(page)
    assert page.locator("#found").inner_text() == "1 frame"
    assert page.locator("#hits button").count() == 1


def test_a_late_answer_of_the_timeline_does_not_undo_a_newer_move(two_videos):
    page = two_videos.page
    hold(page, "/api/videos/drive-0123456789ab/at?time_s=1.5")
    page.evaluate("void goToTime(1.5)")
    page.keyboard.press("ArrowRight")
    wait_for_frame(page, 1)
    release(page)
    wait_for_frame(page, 1)
    assert page.locator("#where").inner_text() == "0:00.1 · frame 1"


def test_timelines_of_videos_that_were_left_are_removed(two_videos):
    page = two_videos.page
    page.evaluate("Promise.all([0, 1, 0, 1, 0, 1, 0, 1].map((i) => openVideo(state.output.videos[i])))")
    assert page.locator("body").get_attribute("data-timeline") == "night-ba9876543210"
    assert page.evaluate("Bokeh.documents.length") == 1
    assert page.evaluate("state.cursors.every((cursor) => cursor.document === Bokeh.documents[0])")
    assert page.locator("#timeline > div").count() == 1
    page.evaluate("openVideo(state.output.videos[0])")
    assert page.evaluate("Bokeh.documents.length") == 1
    assert [said for said in two_videos.complaints if "404" not in said] == []  # there are no pictures


def test_a_page_of_another_origin_cannot_make_the_viewer_run_queries(address, open_page, monkeypatch):
    asked = []
    monkeypatch.setattr(server, "run_sql", lambda *given, **options: asked.append(given))
    page = open_page("about:blank").page
    page.evaluate(
        """(src) => new Promise((resolve) => {
            Object.assign(new Image(), { onload: resolve, onerror: resolve, src });
        })""",
        f"{address}api/query?where=true",
    )
    assert asked == []


@pytest.mark.slow
def test_an_output_without_labels_says_so(output, open_page):
    with serving(output.out) as url:
        page = open_page(url).page
        page.locator("#notice").wait_for()
        assert page.locator("#notice").inner_text() == "This output holds no labels yet."


def test_a_viewer_that_gets_a_narrow_window_fits_it_and_asks_nobody_else(watched, address):
    page = watched.page
    page.set_viewport_size(NARROW)
    page.locator("#forth").click()
    wait_for_frame(page, 1)
    wait_until(lambda: overflow_px(page) <= 0, limit_s=10)
    page.set_viewport_size(WIDE)
    assert watched.complaints == []
    assert all(request.startswith((address, "blob:", "data:")) for request in watched.requests)


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_viewer_fits_the_window(address, open_page, size):
    watched = open_page(address, **size)
    wait_for_frame(watched.page, 0)
    watched.page.wait_for_selector("body[data-timeline]", state="attached")
    assert overflow_px(watched.page) <= 0
    assert watched.complaints == []
    assert all(request.startswith((address, "blob:", "data:")) for request in watched.requests)


def test_uncertain_pixels_are_drawn_when_asked_for(output, open_page):
    corner = np.zeros((HEIGHT, WIDTH), np.uint8)
    corner[0, 0] = 1

    def change(row):
        return drifted(5)(row if row.is_keyframe else replace(row, mask_uncertain=encode_mask(corner)))

    output.write(change=change)
    with serving(output.out) as url:
        page = open_page(f"{url}#drive-0123456789ab/7").page
        wait_for_frame(page, 7)
        assert page.locator("#facts").inner_text().split("\n")[2:6] == [
            "keyframe interval",
            "5 here",
            "drift",
            "0.500 in its chunk",
        ]
        assert page.locator("#sure-0").inner_text() == "0.80"
        before = pixels_of(page)
        page.locator("#uncertain").check()
        wait_until(lambda: not np.array_equal(pixels_of(page), before), limit_s=10)
        assert np.argwhere((pixels_of(page) != before).any(axis=-1)).tolist() == [[0, 0]]
        page.locator("#uncertain").uncheck()
        wait_until(lambda: np.array_equal(pixels_of(page), before), limit_s=10)


def test_without_a_map_of_them_nothing_is_offered(watched):
    assert not watched.page.locator("#uncertain-row").is_visible()
    assert not watched.page.locator("#class-heads").is_visible()
