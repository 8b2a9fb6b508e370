"""The decoder of a job: from the command line to the footers, the report and the fingerprint."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gsvnet.errors import ConfigError, OutputConflict
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.job import label
from gsvnet.labeling.worker import decoder_threads
from gsvnet.store.schema import parse_footer


def test_half_of_the_threads_decode_where_networks_use_the_cores():
    assert [decoder_threads(n, "cpu") for n in (1, 2, 3, 8)] == [1, 1, 1, 4]
    assert [decoder_threads(n, "cuda") for n in (1, 8)] == [1, 8]


def test_nvdec_on_a_cpu_stops_before_anything_is_started():
    with pytest.raises(ConfigError, match="--decoder nvdec needs a GPU"):
        LabelConfig(videos=("v.mp4",), out="o", decoder="nvdec", device="cpu")


def test_auto_without_a_gpu_decodes_on_the_cpu_and_says_so_once(label_config, make_console):
    config = label_config(decoder="auto", device="cpu")
    console = make_console()
    label(config, console=console)
    files = list(Path(config.out).glob("labels/*/*.parquet"))
    assert len(files) > 1
    assert {parse_footer(pq.read_metadata(file).metadata, str(file))[0].decoder for file in files} == {"cpu"}
    assert console.file.getvalue().count("decoded on the CPU: the worker runs on a CPU") == 1


def test_another_decoder_is_another_job(label_config, make_console):
    label(label_config(device="cpu"), console=make_console())
    with pytest.raises(OutputConflict, match="--decoder"):
        label(label_config(decoder="auto", device="cpu"), console=make_console())
