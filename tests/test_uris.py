from __future__ import annotations

import time

import pytest

from gsvnet.uris import absolute_uri, hide_secrets, local_path, redact_text, redact_uri, storage_defaults


@pytest.mark.parametrize(
    ("uri", "redacted"),
    [
        ("s3://bucket/a/b.mp4", "s3://bucket/a/b.mp4"),
        ("s3://key:se/cret@bucket/b.mp4", "s3://bucket/b.mp4"),
        ("ftp://anna@host/b.mp4", "ftp://host/b.mp4"),
        ("https://u:p@ss@host/b.mp4", "https://host/b.mp4"),
        ("https://host?mail=a@b/c", "https://host"),
        ("https://u:p@host:8443/b.mp4?X-Amz-Signature=abc#t=3", "https://host:8443/b.mp4"),
        ("http://host:8080/anna@home/b.mp4", "http://host:8080/anna@home/b.mp4"),
        ("s3://bucket/anna@home/b#1.mp4", "s3://bucket/anna@home/b#1.mp4"),
        ("abfss://train@lake.dfs.core.windows.net/b.mp4?sig=1", "abfss://train@lake.dfs.core.windows.net/b.mp4"),
        (
            "s3://arn:aws:s3:eu-west-1:12:accesspoint/cams/a@1.mp4",
            "s3://arn:aws:s3:eu-west-1:12:accesspoint/cams/a@1.mp4",
        ),
        ("zip://b.mp4::https://u:p@host/x.zip?sig=1", "zip://b.mp4::https://host/x.zip"),
        ("/data/what?.mp4", "/data/what?.mp4"),
        ("ftp://anna@corp.com:hush@host/b.mp4", "ftp://host/b.mp4"),
        ("s3://key:9/hush@bucket/b.mp4", "s3://bucket/b.mp4"),
        ("https://host/b.mp4?sig=a\nhush", "https://host/b.mp4"),
        ("memory://a?b::memory://c", "memory://a::memory://c"),
        ("/data/caf\udce9.mp4", "/data/caf\ufffd.mp4"),
    ],
)
def test_redacting_takes_out_credentials_and_query_only(uri, redacted):
    assert redact_uri(uri) == redacted


def test_secrets_are_hidden_wherever_a_text_repeats_them():
    assert hide_secrets("bucket u:p@b, key x?sig=1", "s3://u:p@b/x?sig=1") == "bucket ***@b, key x?***"
    assert hide_secrets("key a#1?sig=hush", "s3://b/a#1?sig=hush") == "key a#1?***"
    assert hide_secrets("u:hu/sh@b", "s3://u:hu/sh@b/x") == "***@b"
    assert hide_secrets("no [such] host", "http://[/x?y") == "no [such] host"
    assert hide_secrets("no a?mp4, no mp4", "/data/a?mp4") == "no a?mp4, no mp4"
    assert hide_secrets("train: no", "abfss://train@lake.dfs.core.windows.net/b.mp4") == "train: no"


def test_foreign_error_texts_are_redacted():
    assert redact_text("GET 'https://u:p@h/x.mp4?sig=1' failed\nbadly") == "GET 'https://h/x.mp4' failed badly"
    assert redact_text("GET https://h/a b.mp4?X-Amz-Signature=hush&a=b failed") == "GET https://h/a b.mp4 failed"
    assert redact_text("GET https://h/it's.mp4?sig=hush failed") == "GET https://h/it's.mp4 failed"


def test_a_long_text_is_redacted_in_no_time():
    began = time.thread_time()
    assert len(redact_text("x" * 1_000_000)) == 200
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    ("uri", "path"),
    [("a.mp4", "a.mp4"), ("file:///d/a.mp4", "/d/a.mp4"), ("s3://b/a.mp4", None), ("zip://a::/d/x.zip", None)],
)
def test_local_paths_are_told_from_what_fsspec_opens(uri, path):
    found = local_path(uri)
    assert (None if found is None else str(found)) == path


def test_stored_uris_work_from_anywhere_and_hold_no_secret(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("a.mp4") == str(tmp_path / "a.mp4")
    assert absolute_uri("s3://key:secret@bucket/a.mp4") == "s3://bucket/a.mp4"


def test_time_limits_are_set_for_s3_where_the_user_gave_none():
    limits = storage_defaults("s3://b/a.mp4", {"key": "k", "config_kwargs": {"read_timeout": 3}})
    assert limits["key"] == "k"
    assert limits["config_kwargs"]["read_timeout"] == 3
    assert limits["config_kwargs"]["connect_timeout"] == 5
    assert limits["config_kwargs"]["retries"]["mode"] == "standard"


def test_other_stores_and_local_paths_keep_their_options():
    assert storage_defaults("gs://b/a.mp4", {"token": "anon"}) == {"token": "anon"}
    assert storage_defaults("/d/a.mp4") == {}
