from __future__ import annotations

import io
import shlex
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gsvnet.store.codec import encode_mask
from gsvnet.store.read import open_labels
from gsvnet.viewing import server
from gsvnet.viewing.frames import FrameReader
from gsvnet.viewing.server import ASSETS, Viewer, make_app
from tests.viewing.conftest import HEIGHT, WIDTH, Output, drifted

DRIVE = "drive-0123456789ab"
HEAVY = "(select count(*) from range(1000000000) a, range(1000) b where a.range + b.range < 0) = 0"
FRAME = f"/api/videos/{DRIVE}/frames"


def client_of(out: str, *, source: str | None = None, strict: bool = True) -> TestClient:
    labels = open_labels(out)
    app = make_app(
        Viewer(labels=labels, frames=FrameReader(labels), source=source), ["localhost", "127.0.0.1", "[::1]"]
    )
    return TestClient(app, base_url="http://localhost:8050", raise_server_exceptions=strict)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Output:
    """Frames 0..19 (4 lost) and 40..59 of one video, 0..19 of another; no source video."""
    output = Output(tmp_path_factory.mktemp("served") / "out")
    output.write(lost=[4])
    output.write(shard=2, first_frame=40)
    output.write("night-ba9876543210", uri="https://user:secret@host/night.mp4?key=secret")
    return output


@pytest.fixture(scope="module")
def client(served) -> TestClient:
    return client_of(served.out)


def test_the_page_and_its_fixed_files_are_served(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "gsvnet view" in page.text
    for name in ASSETS:
        answer = client.get(f"/assets/{name}")
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, ASSETS[name])


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8050", "[::1]:8050"])
def test_this_machine_s_names_are_let_in(client, host):
    assert client.get("/api/output", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:8050", "127.0.0.1.evil", ""])
def test_another_host_header_is_refused(client, host):
    answer = client.get("/api/output", headers={"host": host})
    assert answer.status_code == 400
    assert DRIVE not in answer.text


@pytest.mark.parametrize("host", ["10.0.0.7", "192.168.1.5:8050", "[fe80::1]:8050", "[::1]", "house", "HOUSE:8050"])
def test_on_all_addresses_ip_addresses_and_own_names_are_let_in(output, host):
    assert host_answer(output, host, any_address=True).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "10.0.0.7.evil.example",
        "10.0.0.7:evil",
        "1.2.3",
        "[evil]",
        "[10.0.0.7]",
        "fe80::1",
        "10.0.0.7@x",
    ],
)
def test_on_all_addresses_other_names_are_refused(output, host):
    assert host_answer(output, host, any_address=True).status_code == 400


def test_on_one_address_other_addresses_are_refused(output):
    assert host_answer(output, "10.0.0.7", any_address=False).status_code == 400


def host_answer(output, host: str, *, any_address: bool):
    labels = open_labels(output.out)
    viewer = Viewer(labels=labels, frames=FrameReader(labels))
    client = TestClient(make_app(viewer, ["localhost", "house"], any_address=any_address), base_url="http://localhost")
    return client.get("/", headers={"host": host})


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
)
def test_only_the_viewer_s_own_page_gets_data(client, site, status):
    answer = client.get("/api/query", params={"where": "true"}, headers={"sec-fetch-site": site})
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/", headers={"sec-fetch-site": site}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/..%2f..%2fetc/passwd",
        "/assets/..%2f..%2fserver.py",
        "/assets/%2fetc%2fpasswd",
        "/assets/view.html",
        "/api/videos/..%2f..%2f_job.json",
        f"/api/videos/{DRIVE}%2f..%2fnight-ba9876543210",
        "/api/videos/drive",
        "/api/videos/drive.mp4/frames/0/labels.png",
        f"{FRAME}/0/..%2flabels.png",
        f"{FRAME}/-1",
        f"{FRAME}/zero",
        f"{FRAME}/30",
        f"{FRAME}/30/labels.png",
        f"{FRAME}/99999999999999999999/picture.jpg",
        f"/api/query?where=true&video=..%2f..%2f{DRIVE}",
    ],
)
def test_what_is_not_known_is_not_found(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_but_get_is_answered(client, method):
    answer = client.request(method, "/api/output", headers={"origin": "https://evil.example"})
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_every_answer_has_a_strict_policy(client):
    for path in ("/", "/api/output", "/nothing", f"{FRAME}/0/labels.png"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "unsafe-eval" not in policy


def test_names_are_escaped_in_the_page(client, monkeypatch):
    monkeypatch.setattr(server, "redact_uri", lambda uri: "<script>alert(1)</script>")
    assert "<script>alert" not in client.get("/").text


def test_a_video_s_facts_hold_no_credentials(client):
    facts = client.get("/api/videos/night-ba9876543210").json()
    assert (facts["uri"], facts["num_frames"], facts["frame_s"]) == ("https://host/night.mp4", 20, pytest.approx(0.1))
    assert "secret" not in client.get("/api/videos/night-ba9876543210/frames/0").text


def test_a_frame_tells_its_row_and_how_to_get_it(client, served):
    facts = client.get(f"{FRAME}/7").json()
    assert facts["reference"] == {
        "video": DRIVE, "frame_index": 7, "pts": 7 * 1280, "time_s": 0.7, "uri": "/videos/drive.mp4",
    }  # fmt: skip
    assert shlex.split(facts["command"]) == ["gsvnet", "show", served.out, "--video", DRIVE, "--frame", "7"]
    assert (facts["keyframe_distance"], facts["is_keyframe"]) == (2, False)
    assert facts["shares"][0] == 0.5
    assert sum(facts["shares"]) == pytest.approx(1)


def test_the_command_names_the_source_where_one_was_given(served):
    command = client_of(served.out, source="/new place/").get(f"{FRAME}/0").json()["command"]
    assert shlex.split(command)[-2:] == ["--source", "/new place/"]


def test_labels_are_class_ids(client, served):
    image = Image.open(io.BytesIO(client.get(f"{FRAME}/45/labels.png").content))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), open_labels(served.out).labels_at(DRIVE, [45])[0])


def test_a_lost_frame_has_a_row_without_shares(client):
    facts = client.get(f"{FRAME}/4").json()
    assert (facts["status"], facts["shares"], facts["confidence"]) == ("decode_error", [], None)


def test_without_its_video_a_picture_is_missing_and_says_why(client):
    answer = client.get(f"{FRAME}/0/picture.jpg")
    assert answer.status_code == 404
    assert answer.json()["whole_video"] is True
    assert "nothing there" in answer.json()["error"]


def test_a_time_gives_the_frame_on_screen(client):
    assert client.get(f"/api/videos/{DRIVE}/at?time_s=0.75").json() == {"frame_index": 7}
    assert "before a gap" in client.get(f"/api/videos/{DRIVE}/at?time_s=3").json()["error"]
    for value in ("", "x", "nan", "inf"):
        assert client.get(f"/api/videos/{DRIVE}/at?time_s={value}").status_code in (400, 404), value


def test_the_timeline_is_what_bokeh_embeds(client):
    assert {"doc", "root_id", "target_id"} <= client.get(f"/api/videos/{DRIVE}/timeline").json().keys()


def test_a_query_lists_frames(client):
    found = client.get("/api/query", params={"where": "frame_index % 10 = 3 and time_s > 1"}).json()
    assert found["num_frames"] == 4
    assert [(hit["video"], hit["frame_index"]) for hit in found["hits"]] == [
        (DRIVE, 13), (DRIVE, 43), (DRIVE, 53), ("night-ba9876543210", 13),
    ]  # fmt: skip
    only = client.get("/api/query", params={"where": "frame_index = 3 -- comment", "video": DRIVE}).json()
    assert only["num_frames"] == 1
    assert client.get("/api/query", params={"where": "false"}).json() == {"num_frames": 0, "hits": []}


def test_a_query_tells_the_count_beyond_its_limit(client, monkeypatch):
    monkeypatch.setattr(server, "MAX_HITS", 5)
    found = client.get("/api/query", params={"where": "true"}).json()
    assert (found["num_frames"], len(found["hits"])) == (60, 5)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("", "no condition"),
        ("pixels.unicorn > 1", "unicorn"),
        ("frame_index >", "syntax error"),
        ("true) ; drop view frames; select (true", "one SELECT"),
        ("frame_index in (select 1 from read_csv('/etc/passwd'))", "ermission"),
    ],
)
def test_a_bad_condition_is_one_clear_line(client, where, said):
    answer = client.get("/api/query", params={"where": where})
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_a_query_that_takes_too_long_is_stopped(client, monkeypatch):
    monkeypatch.setattr(server, "QUERY_LIMIT_S", 0.2)
    answer = client.get("/api/query", params={"where": HEAVY})
    assert (answer.status_code, "longer than" in answer.json()["error"]) == (400, True)


def test_a_query_ends_when_the_viewer_does(output):
    output.write()
    labels = open_labels(output.out)
    viewer = Viewer(labels=labels, frames=FrameReader(labels))
    client = TestClient(make_app(viewer, ["localhost"]), base_url="http://localhost")
    timer = threading.Timer(0.2, viewer.stop.set)
    timer.start()
    answer = client.get("/api/query", params={"where": HEAVY})
    assert (answer.status_code, "was stopped" in answer.json()["error"]) == (400, True)


def test_damage_is_told_with_the_file_and_without_credentials(output):
    path = output.write()
    path.write_bytes(path.read_bytes()[:-10])
    answer = client_of(output.out).get(f"{FRAME}/0")
    assert answer.status_code == 500
    assert "000000.parquet" in answer.json()["error"]


def test_a_mistake_of_ours_is_one_line_too(served, monkeypatch):
    def fail(*given):
        raise RuntimeError("secret")

    monkeypatch.setattr(server, "summarise_videos", fail)
    answer = client_of(served.out, strict=False).get(f"/api/videos/{DRIVE}")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error (RuntimeError)"})


def test_a_frame_tells_its_chunk_s_drift_and_where_it_is_uncertain(output):
    edge = np.eye(HEIGHT, WIDTH, dtype=np.uint8)

    def change(row):
        row = drifted(5)(row)
        return row if row.is_keyframe else replace(row, mask_uncertain=encode_mask(edge))

    output.write(change=change)
    client = client_of(output.out)
    keyframe, frame = client.get(f"{FRAME}/5").json(), client.get(f"{FRAME}/8").json()
    assert (frame["keyframe_interval"], frame["drift"], frame["has_uncertain"]) == (5, 0.5, True)
    assert (keyframe["drift"], keyframe["has_uncertain"]) == (0.5, False)
    assert frame["class_confidence"] == pytest.approx([0.8] * 11)
    found = np.asarray(Image.open(io.BytesIO(client.get(f"{FRAME}/8/uncertain.png").content)))
    np.testing.assert_array_equal(found, edge)
    assert client.get(f"{FRAME}/5/uncertain.png").status_code == 404


def test_labels_without_such_columns_tell_nothing_of_them(client):
    frame = client.get(f"{FRAME}/3").json()
    nothing = {"keyframe_interval": None, "drift": None, "class_confidence": [], "has_uncertain": False}
    assert {name: frame[name] for name in nothing} == nothing
