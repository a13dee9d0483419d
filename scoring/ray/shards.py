"""Shards with many images: tar files, as in WebDataset, and Parquet tables with a column of image files.

Shards are read as streams. If part of a shard cannot be read, one more image raises the error when it is opened; it
becomes a row with that error, and the images before it keep their rows.
"""

import argparse
import tarfile
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.defaults import BYTES_COLUMN, IMAGE_COLUMNS, is_image
from scoring.inputs import choose_column
from scoring.pictures import Encoded
from scoring.ray.remote_files import open_filesystem
from utils.errors import UserError, one_line

ROWS_AT_ONCE = 16  # rows of a Parquet table
PARQUET = ".parquet"


def images_in(shard: str, args: argparse.Namespace) -> Iterator[Encoded]:
    """Yield the images of a shard in order; those of a tar file are named SHARD/MEMBER."""
    try:
        yield from _table_images(shard, args) if _is_parquet(shard) else _tar_images(shard)
    except UserError as error:
        yield _image(shard, error)
    except FileNotFoundError:
        yield _image(shard, UserError(f"{shard} does not exist"))
    except (tarfile.TarError, pa.ArrowException, OSError, EOFError) as error:
        yield _image(shard, UserError(f"{shard} cannot be read to its end: {one_line(error)}"))


def require_columns(sources: Sequence[str], args: argparse.Namespace) -> None:
    """Check the columns of the first readable table, if there is one.

    Raises:
        UserError: A column does not exist.
    """
    for shard in filter(_is_parquet, sources):
        filesystem, path = open_filesystem(shard)
        try:
            schema = pq.read_schema(path, filesystem=filesystem)
        except (pa.ArrowException, OSError):
            continue  # its row will contain the error
        choose_columns(shard, schema.names, args)
        return


def choose_columns(shard: str, names: Sequence[str], args: argparse.Namespace) -> list[str]:
    """Return the columns of image names and of image files in a table with these columns."""
    return [
        choose_column(shard, names, args.image_column, IMAGE_COLUMNS, "--image-column"),
        choose_column(shard, names, args.image_bytes, (BYTES_COLUMN,), "--image-bytes"),
    ]


def _tar_images(shard: str) -> Iterator[Encoded]:
    filesystem, path = open_filesystem(shard)
    with filesystem.open_input_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as members:
        for member in members:
            if member.isfile() and is_image(member.name):
                yield _image(f"{shard}/{member.name}", members.extractfile(member).read())


def _table_images(shard: str, args: argparse.Namespace) -> Iterator[Encoded]:
    filesystem, path = open_filesystem(shard)
    with pq.ParquetFile(path, filesystem=filesystem) as table:
        columns = choose_columns(shard, table.schema_arrow.names, args)
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
            for name, content in zip(*(batch[column].to_pylist() for column in columns), strict=True):
                yield _image(str(name), content)


def _is_parquet(shard: str) -> bool:
    return shard.lower().endswith(PARQUET)


def _image(name: str, content: bytes | UserError | None) -> Encoded:
    def read() -> bytes:
        if isinstance(content, UserError):
            raise content
        if content is not None and not isinstance(content, bytes):
            raise UserError(
                f"{name}: its column contains {type(content).__name__}, not bytes; choose another with --image-bytes"
            )
        return content or b""

    return Encoded(name, read)
