"""`gsvnet.store` is light: what only reads labels starts fast and installs little."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import gsvnet.store
from gsvnet.store.read import open_labels

CODE = """
import json, sys, time
start_s = time.process_time()
import gsvnet.store
gsvnet.store.open_labels
heavy = {"torch", "ray", "av", "duckdb", "s3fs", "botocore", "PIL"} & sys.modules.keys()
print(json.dumps([time.process_time() - start_s, sorted(heavy)]))
"""


def test_the_store_offers_open_labels():
    assert gsvnet.store.open_labels is open_labels
    with pytest.raises(AttributeError, match="no attribute 'close_labels'"):
        _ = gsvnet.store.close_labels


def test_opening_labels_needs_little():
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert [heavy for _, heavy in runs] == [[]] * 3
    assert min(seconds for seconds, _ in runs) < 3  # of processor time: 0.4 s where nothing else runs; reach: 1 s


def test_reading_and_its_torch_dataset_are_apart():
    code = "import sys, gsvnet.reading, gsvnet.store.row_groups; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
