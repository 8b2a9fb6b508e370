from __future__ import annotations

import os

import fsspec
import pytest

from gsvnet.errors import ConfigError, StoreUnavailable
from gsvnet.labeling.inputs import VIDEO_SUFFIXES, expand_inputs
from tests.soak.proxy import Weather, faulty_proxy


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.MKV", "notes.txt", ".hidden.mp4", "deep/c.ts", "deep/er/d.mov", "x[1].mp4", "what?.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "videos"


def names(uris, folder):
    return [uri.removeprefix(f"{folder}/") for uri in uris]


def test_plain_paths_are_taken_as_they_are(folder):
    given = ["videos/a.mp4", "no/such.mp4", "notes.txt", "s3://bucket/key.mp4", "https://host/a.mp4?sig=x*"]
    assert expand_inputs(given) == given


def test_a_folder_stands_for_the_videos_below_it(folder):
    found = names(expand_inputs(["videos"]), folder)
    assert found == ["a.mp4", "b.MKV", "deep/c.ts", "deep/er/d.mov", "what?.mp4", "x[1].mp4"]


def test_globs_match_videos_only_and_come_sorted(folder):
    assert names(expand_inputs(["videos/*"]), folder) == ["a.mp4", "b.MKV", "what?.mp4", "x[1].mp4"]
    assert names(expand_inputs(["videos/**/*.mov"]), folder) == ["deep/er/d.mov"]
    assert names(expand_inputs(["videos/?.mp4"]), folder) == ["a.mp4"]


@pytest.mark.parametrize("name", ["x[1].mp4", "what?.mp4"])
def test_a_file_that_looks_like_a_glob_is_a_file(folder, name):
    assert names(expand_inputs([f"videos/{name}"]), folder) in ([name], [f"videos/{name}"])


def test_the_order_given_is_kept_and_nothing_is_named_twice(folder):
    given = ["videos/deep/c.ts", "videos/a.mp4", "videos/deep/c.ts"]
    assert expand_inputs(given) == given[:2]


def test_a_list_names_one_input_per_line_relative_to_itself(folder, tmp_path):
    text = "# drives\na.mp4\n\n  deep/*.ts  \nb.MKV # the second\ns3://bucket/key.mp4\n" + f"{folder}/deep/er\n"
    (folder / "list.txt").write_text(text)
    found = names(expand_inputs(["@videos/list.txt"]), folder)
    assert [name.removeprefix("videos/") for name in found] == [
        "a.mp4",
        "deep/c.ts",
        "b.MKV",
        "s3://bucket/key.mp4",
        "deep/er/d.mov",
    ]


def test_a_list_named_by_a_file_uri_is_relative_to_itself_too(folder):
    (folder / "list.txt").write_text("a.mp4\n")
    assert names(expand_inputs([f"@file://{folder}/list.txt"]), folder) == ["a.mp4"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("videos/*.avi", r"videos/\*\.avi: no video there; files with these suffixes count"),
        ("videos/deep/er/none*", "no video there"),
        ("@videos/notes.txt", "the list videos/notes.txt names no video"),
        ("@none.txt", "cannot read the list none.txt"),
        ("@empty.txt", "the list empty.txt names no video"),
        ("@nested.txt", "names another list, @empty.txt"),
        ("memory://none/*.mp4", "no video there"),
    ],
)
def test_what_yields_nothing_is_an_error_not_a_smaller_job(folder, tmp_path, given, problem):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "nested.txt").write_text("@empty.txt\n")
    (tmp_path / "videos" / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=problem):
        expand_inputs([given])


def test_messages_about_lists_hold_no_secret():
    contents = {"none": b"", "more": b"@https://u:hush@host/a.txt?sig=hush"}
    for name, content in contents.items():
        fsspec.filesystem("memory").pipe(f"/lists/{name}.txt?sig=hush", content)
        with pytest.raises(ConfigError, match=f"the list memory://lists/{name}.txt names") as refused:
            expand_inputs([f"@memory://lists/{name}.txt?sig=hush"])
        assert "hush" not in str(refused.value)


def test_stores_are_listed_like_folders():
    memory = fsspec.filesystem("memory")
    for name in ("a.mp4", "b.txt", "deep/c.mkv"):
        memory.pipe(f"/inputs/{name}", b"x")
    assert expand_inputs(["memory://inputs/"]) == ["memory:///inputs/a.mp4", "memory:///inputs/deep/c.mkv"]
    assert expand_inputs(["memory://inputs/*.mp4"]) == ["memory:///inputs/a.mp4"]
    assert expand_inputs(["memory://inputs/none.mp4"]) == ["memory://inputs/none.mp4"]


def test_a_store_without_driver_is_one_line_without_secrets():
    with pytest.raises(ConfigError) as refused:
        expand_inputs(["nosuch://user:hush@host/*.mp4"])
    assert "nosuch" in str(refused.value)
    assert "hush" not in str(refused.value)


def test_suffixes_are_lower_case_and_begin_with_a_dot():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEO_SUFFIXES)


@pytest.fixture
def bucket(moto_s3):
    bucket = moto_s3.make_bucket()
    for name in ("in/a.mp4", "in/deep/b.mkv", "in/deep/er/c.ts", "in/notes.txt", "inside.mp4"):
        moto_s3.client().put_object(Bucket=bucket, Key=name, Body=b"x")
    return f"s3://{bucket}"


@pytest.mark.s3
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("in/", ["in/a.mp4", "in/deep/b.mkv", "in/deep/er/c.ts"]),
        ("in/*.mp4", ["in/a.mp4"]),
        ("in/*/*", ["in/deep/b.mkv"]),
        ("in/**/*.ts", ["in/deep/er/c.ts"]),
        ("in*.mp4", ["inside.mp4"]),
        ("in*/dee?/[ab].*", ["in/deep/b.mkv"]),
    ],
)
def test_buckets_are_listed_like_folders(moto_s3, bucket, given, found):
    assert expand_inputs([f"{bucket}/{given}"], storage_options=moto_s3.options) == [f"{bucket}/{n}" for n in found]


@pytest.mark.s3
def test_a_folder_that_cannot_be_listed_is_not_left_out_of_a_glob(moto_s3, bucket, monkeypatch):
    monkeypatch.setattr("gsvnet.store.faults.RETRY_FOR_S", 0.0)
    moto_s3.client().put_object(Bucket=bucket.removeprefix("s3://"), Key="in/wide/z.mp4", Body=b"x")
    with faulty_proxy(moto_s3.endpoint_url) as proxy:
        proxy.forecast = lambda method, path: Weather(failing=1) if "deep" in path else None
        options = moto_s3.options | {"endpoint_url": proxy.url}
        with pytest.raises(StoreUnavailable, match=r"cannot list s3://.*/in/\*/\*"):
            expand_inputs([f"{bucket}/in/*/*"], storage_options=options)


@pytest.mark.s3
@pytest.mark.parametrize("given", ["s3://no-such-bucket-here/", "s3://no-such-bucket-here/*.mp4", "@s3://no-such-b/l"])
def test_a_missing_bucket_is_named(moto_s3, given):
    with pytest.raises(ConfigError, match=r"there is no bucket no-such-b.*correct the URI|nothing there") as refused:
        expand_inputs([given], storage_options=moto_s3.options)
    assert moto_s3.secret not in str(refused.value)


@pytest.mark.s3
@pytest.mark.parametrize("given", ["s3://videos/", "s3://videos/*.mp4", "@s3://videos/list.txt"])
def test_a_store_that_is_out_is_no_empty_folder(monkeypatch, given):
    monkeypatch.setattr("gsvnet.store.faults.RETRY_FOR_S", 0.0)
    down = {"key": "k", "secret": "hush", "endpoint_url": "http://127.0.0.1:1"}
    with pytest.raises(StoreUnavailable, match="s3://videos") as refused:
        expand_inputs([given], storage_options=down)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a.mp4\0b.mp4\n", "is no text in UTF-8: it holds a NUL"),
        ("a.mp4\n".encode("utf-16"), "is no text in UTF-8"),
        (b"**a\n", r"is no glob: .*'\*\*'"),
    ],
)
def test_what_is_no_list_of_names_is_one_line(folder, tmp_path, content, problem):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=problem):
        expand_inputs(["@list.txt"])


def test_a_list_as_windows_writes_it_is_read(folder):
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfa.mp4\r\ndeep/c.ts\r\n")
    assert names(expand_inputs(["@videos/list.txt"]), folder) == ["videos/a.mp4", "videos/deep/c.ts"]


def test_names_of_any_bytes_are_found_by_a_list(folder):
    name = os.fsdecode(b"caf\xe9\xc2\x85.mp4")  # latin-1, then what Unicode takes for the end of a line
    (folder / name).write_bytes(b"x")
    (folder / "list.txt").write_bytes(os.fsencode(name) + b"\n")
    (found,) = expand_inputs(["@videos/list.txt"])
    assert os.path.exists(found)  # noqa: PTH110 Path would do the same


def test_a_name_longer_than_any_file_has_is_taken_as_it_is(folder):
    name = "x" * 300 + "[1].mp4"
    with pytest.raises(ConfigError, match="no video there"):
        expand_inputs([name])
    assert expand_inputs(["y" * 5000]) == ["y" * 5000]


def test_a_name_with_a_nul_is_a_config_error():
    with pytest.raises(ConfigError, match="holds a NUL"):
        expand_inputs(["a\0.mp4"])


def test_a_video_in_place_of_a_list_is_not_read(folder, monkeypatch):
    with (folder / "day.mp4").open("wb") as file:
        file.truncate(2**29)
    monkeypatch.setattr("gsvnet.labeling.inputs.read_bytes", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ConfigError, match=r"day\.mp4: 537 MB; lists have at most 268"):
        expand_inputs(["@videos/day.mp4"])
