"""A label file is read once from front to back, in parts that hold whole row groups."""

from __future__ import annotations

import hashlib
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.errors import CorruptLabels, StoreError
from gsvnet.store import scan
from gsvnet.store.scan import LabelScan, StoredLabels, list_stored, read_footer


@pytest.fixture
def stored(tmp_path, write_shard, monkeypatch) -> StoredLabels:
    """A file of five row groups."""
    monkeypatch.setattr("gsvnet.store.write.MAX_ROW_GROUP_ROWS", 4)
    write_shard(str(tmp_path / "out"), num_frames=18)
    ((file,),) = list_stored(str(tmp_path / "out"))
    return file


class CountedReads:
    """A local file system that notes which bytes are fetched."""

    def __init__(self) -> None:
        self.fs, self.parts = fsspec.filesystem("file"), []
        self.protocol = "memory"

    def cat_file(self, path, start=None, end=None):
        data = self.fs.cat_file(path, start=start, end=end)
        self.parts.append((start or 0, (start or 0) + len(data)))
        return data

    def unstrip_protocol(self, path):
        return path


@pytest.mark.parametrize("block_bytes", [1, 3_000, 2**20])
def test_all_rows_and_the_hash_of_all_bytes_come_out(stored, monkeypatch, block_bytes):
    monkeypatch.setattr(scan, "BLOCK_BYTES", block_bytes)
    read = LabelScan(stored)
    groups = [(group.number, group.first_row, group.read()) for group in read.groups()]
    assert [group[:2] for group in groups] == [(0, 0), (1, 4), (2, 8), (3, 12), (4, 16)]
    assert pa.concat_tables(table for _, _, table in groups) == pq.ParquetFile(stored.path).read()
    assert read.sha256 == hashlib.sha256(Path(stored.path).read_bytes()).hexdigest()


def test_a_small_file_is_one_request(stored):
    fs = CountedReads()
    file = StoredLabels(fs=fs, path=stored.path, name="x", num_bytes=stored.num_bytes)
    assert len([group.read(["pts"]) for group in LabelScan(file).groups()]) == 5
    assert fs.parts == [(0, stored.num_bytes)]


def test_a_large_file_is_read_in_parts_that_make_up_the_whole(stored, monkeypatch):
    monkeypatch.setattr(scan, "BLOCK_BYTES", 3_000)
    monkeypatch.setattr(scan, "_TAIL_BYTES", 64)
    fs = CountedReads()
    file = StoredLabels(fs=fs, path=stored.path, name="x", num_bytes=stored.num_bytes)
    read = LabelScan(file)
    for group in read.groups():
        group.read()
    tail, footer, *parts = fs.parts
    assert tail == (stored.num_bytes - 64, stored.num_bytes)
    assert footer[1] == stored.num_bytes
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == stored.num_bytes
    assert max(stop - start for start, stop in parts) == 3_000
    assert read.is_seamless
    assert read.num_bytes_read == sum(stop - start for start, stop in fs.parts)


def test_the_footer_alone_is_little(stored):
    metadata, num_bytes_read = read_footer(stored)
    assert (metadata.num_rows, num_bytes_read) == (18, min(stored.num_bytes, 2**16))


@pytest.mark.parametrize("block_bytes", [1, 2**20])
def test_a_damaged_page_is_named_and_the_other_groups_can_be_read(stored, monkeypatch, block_bytes):
    monkeypatch.setattr(scan, "BLOCK_BYTES", block_bytes)
    group = pq.read_metadata(stored.path).row_group(2)
    mask = group.column(group.num_columns - 1)
    data = bytearray(Path(stored.path).read_bytes())
    data[mask.data_page_offset + mask.total_compressed_size - 1] ^= 1
    Path(stored.path).write_bytes(data)
    failed = []
    for each in LabelScan(stored).groups():
        try:
            each.read()
        except CorruptLabels as error:
            failed.append((each.number, str(error).partition(" cannot")[0]))
    assert failed == [(2, f"{stored.name}, row group 2,")]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\xff" * 8, b"x" * 1000])
def test_what_is_no_parquet_is_corrupt(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    file = StoredLabels(fs=fsspec.filesystem("file"), path=str(tmp_path / "x"), name="x", num_bytes=len(data))
    for read in (LabelScan, read_footer):
        with pytest.raises(CorruptLabels, match="x cannot be read"):
            read(file)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_length_than_listed_is_corrupt(stored, change):
    file = StoredLabels(fs=stored.fs, path=stored.path, name="x", num_bytes=stored.num_bytes + change)
    with pytest.raises(CorruptLabels, match="not as long as listed"):
        LabelScan(file)


def test_a_file_that_is_gone_is_a_store_error(stored):
    Path(stored.path).unlink()
    with pytest.raises(StoreError, match="is gone"):
        LabelScan(stored)


def test_everything_below_labels_is_listed_by_its_name(tmp_path, stored):
    (tmp_path / "out/labels/x.txt").write_text("abc")
    found = {file.name: file.num_bytes for page in list_stored(str(tmp_path / "out")) for file in page}
    assert found == {"labels/drive-0123456789ab/000000.parquet": stored.num_bytes, "labels/x.txt": 3}
