"""The Parquet files of a table as one pyarrow dataset, in a folder or on an object store.

What reads the files is Arrow's own C++ on both: through a Python file system its threads may want the interpreter when
that is gone already, and a process that has done its work is aborted at its end (2 of 60 short ones were). So S3 is
read by the AWS client inside pyarrow, told the same things as the one that writes. Only the columns and row groups that
are asked for are fetched. Where all files together are small, they are fetched whole instead, a request each, by the
client that all else is read with, under its limits.

Cost: 20 ms for the first dataset of a process on S3, then 0.1 ms a file.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
from deltalake.fs import DeltaStorageHandler

from tamis.store.errors import StoreFormatError
from tamis.store.roots.objects import arrow_limits
from tamis.store.roots.options import checked, environment
from tamis.store.roots.roots import Root
from tamis.store.tables import datafiles
from tamis.store.tables.log import damaged

_FEW = 1 << 20  # bytes of all files of a table below which they are fetched whole
_AT_ONCE = 16
_MAGIC = b"PAR1"  # with which a Parquet file begins and ends


def dataset_of(root: Root, base: str, schema: pa.Schema, partitions: list[str], files: pa.Table) -> pads.Dataset:
    """Data files of one table, at least one, as a dataset.

    Args:
        root: the store's.
        base: the URI of the table.
        schema: the table's columns.
        partitions: those of them that are in the files' paths.
        files: what `Tables.files` says of them.
    """
    if root.path is not None:
        parts = pads.partitioning(pa.schema([schema.field(c) for c in partitions]), flavor="hive")
        return pads.dataset(
            files["path"].to_pylist(),
            schema,
            format="parquet",
            partitioning=parts if partitions else None,
            partition_base_dir=base,
        )
    parquet = pads.ParquetFileFormat()
    if sum(files["bytes"].to_pylist()) <= _FEW:
        fragments = [
            parquet.make_fragment(content, partition_expression=_all_equal({c: row[c] for c in partitions}))
            for content, row in zip(_contents(root, files["path"].to_pylist()), files.to_pylist(), strict=True)
        ]
        return pads.FileSystemDataset(fragments, schema, parquet)
    files_at, prefix = _file_system(root, base)
    fragments = [
        parquet.make_fragment(
            prefix + row["path"].removeprefix(base),
            files_at,
            # The size spares a request a file.
            file_size=row["bytes"],
            partition_expression=_all_equal({c: row[c] for c in partitions}),
        )
        for row in files.to_pylist()
    ]
    return pads.FileSystemDataset(fragments, schema, parquet, files_at)


def _contents(root: Root, paths: list[str]) -> list[pa.Buffer]:
    """Files of the store, whole, some at a time."""

    def content(path: str) -> pa.Buffer:
        data = root.get(path.removeprefix(f"{root.url}/"))
        if data is None:
            raise StoreFormatError(damaged(path, "the table's log names it, and it is missing"))
        datafiles.check(path, datafiles.named(path.rpartition("/")[2]).digest, data)
        if len(data) < 12 or not data[:4] == data[-4:] == _MAGIC:
            raise StoreFormatError(damaged(path, f"{len(data)} bytes that are not a Parquet file"))
        return pa.py_buffer(data)

    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tamis-tables")
    try:
        return list(pool.map(content, paths))
    finally:
        pool.shutdown(cancel_futures=True)


def _all_equal(values: dict[str, str]) -> pads.Expression:
    terms = [pads.field(column) == pads.scalar(value) for column, value in values.items()]
    return functools.reduce(lambda a, b: a & b, terms, pads.scalar(True))


def _file_system(root: Root, base: str) -> tuple[pafs.FileSystem, str]:
    """A file system, and where in it a table lies."""
    if not base.startswith("s3://"):
        return pafs.PyFileSystem(DeltaStorageHandler(base, root.table_options)), ""
    said = environment() | {k.lower(): v for k, v in checked(root.options).items()}
    limits = arrow_limits(root.options)
    return _s3(tuple(sorted(said.items())), tuple(sorted(limits.items()))), base.removeprefix("s3://")


@functools.lru_cache(maxsize=8)
def _s3(asked: tuple[tuple[str, str], ...], limited: tuple[tuple[str, float], ...]) -> pafs.FileSystem:
    said, limits = {k.removeprefix("aws_"): v for k, v in asked}, dict(limited)
    more: dict[str, Any] = {}
    if endpoint := said.get("endpoint_url") or said.get("endpoint"):
        more = {"endpoint_override": endpoint, "scheme": urlsplit(endpoint).scheme or "https"}
    if said.get("skip_signature", "").lower() == "true":
        more["anonymous"] = True
    elif "access_key_id" in said:
        more["access_key"], more["secret_key"] = said["access_key_id"], said.get("secret_access_key", "")
        more["session_token"] = said.get("session_token") or said.get("token")
    if "proxy_url" in said:
        more["proxy_options"] = said["proxy_url"]
    return pafs.S3FileSystem(
        region=said.get("region") or said.get("default_region") or "us-east-1",
        force_virtual_addressing=said.get("virtual_hosted_style_request", "").lower() == "true",
        connect_timeout=limits["connect_timeout"],
        request_timeout=limits["request_timeout"],
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=int(limits["attempts"])),
        **more,
    )
