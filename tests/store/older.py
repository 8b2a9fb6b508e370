"""Label files as they were before the columns of `later_schema` came."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from gsvnet.store.schema import first_schema
from gsvnet.store.sources import parse_sources


def take_later_columns_away(path: str | Path) -> None:
    """Write a local label file anew with its row groups and footer keys, as the first version's writer did."""
    file = pq.ParquetFile(path)
    keys = file.metadata.metadata
    classes = parse_sources(keys, str(path))[0].footer.classes
    schema = first_schema(classes)
    groups = [file.read_row_group(i, columns=schema.names) for i in range(file.num_row_groups)]
    leaves = [f"pixels.{name}" for name in classes.identifiers]
    leaves += [name for name in schema.names if name not in ("pixels", "mask")]
    with pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression={**dict.fromkeys(leaves, "zstd"), "mask": "none"},
        compression_level=dict.fromkeys(leaves, 3),
        use_dictionary=["video", "uri", "status", "codec"],
        write_statistics=leaves,
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        for table in groups:
            writer.write_table(table.cast(schema))
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in keys.items()})
