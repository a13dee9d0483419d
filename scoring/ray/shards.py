"""Shards with many images: tar files, as in WebDataset, zip files, and Parquet tables with a column of image files.

Shards are read as streams. If part of a shard cannot be read, one more image raises the error when it is opened; it
becomes a row with that error, and the images before it keep their rows.
"""

import argparse
import os
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.defaults import BYTES_COLUMN, IMAGE_COLUMNS, is_image
from scoring.inputs import choose_column
from scoring.pictures import Encoded
from scoring.ray.remote_files import open_filesystem
from utils.errors import UserError, one_line
from utils.files import read_at_most

ROWS_AT_ONCE = 16  # rows of a Parquet table
LARGEST = 2**29  # bytes of an image file; more than one of the largest size that is decoded has
PARQUET, ZIP, TAR, ZSTD = ".parquet", ".zip", ".tar", ".zst"
KEYS = ("key", "__key__")  # names of images, as img2dataset and WebDataset call them
STRUCT = ("bytes", "path")  # fields of an image in a dataset of Hugging Face


def images_in(shard: str, args: argparse.Namespace) -> Iterator[Encoded]:
    """Yield the images of a shard in order; those of an archive are named SHARD/MEMBER."""
    read = _table_images if _is_parquet(shard) else _zip_images if shard.lower().endswith(ZIP) else _tar_images
    empty = True
    try:
        for image in read(shard, args):
            yield image
            empty = False
        if empty:
            yield _image(shard, UserError(f"{shard} contains no image"))
    except UserError as error:
        yield _image(shard, error)
    except FileNotFoundError:
        yield _image(shard, UserError(f"{shard} does not exist"))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, pa.ArrowException, OSError, EOFError) as error:
        yield _image(shard, UserError(f"{shard} cannot be read to its end: {one_line(error)}"))


def require_columns(sources: Sequence[str], args: argparse.Namespace) -> list[str]:
    """Check the columns of the first readable table, if there is one, and return the sources that contain images.

    A table without images, beside an archive or folder of the same name, contains the metadata of those images, as
    img2dataset writes them; it is passed over with a word on stderr.

    Raises:
        UserError: A column does not exist.
    """
    for shard in filter(_is_parquet, sources):
        filesystem, path = open_filesystem(shard)
        try:
            schema = pq.read_schema(path, filesystem=filesystem)
        except (pa.ArrowException, OSError):
            continue  # its row will contain the error
        try:
            choose_columns(shard, schema, args)
        except UserError as error:
            metadata = _metadata(sources)
            if shard not in metadata:
                raise UserError(f"{error}{_where_images_are(shard)}") from error
            print(f"passed over: {len(metadata)} {PARQUET} without images, which lie beside theirs", file=sys.stderr)
            return [source for source in sources if source not in metadata]
        break
    return list(sources)


def _metadata(sources: Sequence[str]) -> set[str]:
    """Return the tables that have an archive, or a folder of images, of the same name among the sources."""
    others = {_stem(source) for source in sources if not _is_parquet(source)}
    others |= {os.path.dirname(source) for source in sources}
    return {source for source in sources if _is_parquet(source) and _stem(source) in others}


def _where_images_are(table: str) -> str:
    """Return a hint where the images of a table are, if they are local."""
    if os.path.exists(f"{_stem(table)}{TAR}"):
        return f"; its images are in {_stem(table)}{TAR}: name '{os.path.join(os.path.dirname(table), '*' + TAR)}'"
    return "; its images are in the folder of the same name: add --recursive" if os.path.isdir(_stem(table)) else ""


def _stem(path: str) -> str:
    """Return a path up to the first dot of its file name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, name.partition(".")[0])


def choose_columns(shard: str, schema: pa.Schema, args: argparse.Namespace) -> tuple[str | None, str]:
    """Return the columns of image names and of image files in a table; None if it has no names.

    By default, files are in the column `bytes`, else in the only one that can contain files; names are in `image`,
    `path` or `key`, else those of the files, or the numbers of the rows.
    """
    columns = dict(zip(schema.names, schema.types, strict=True))
    files = [name for name, kind in columns.items() if _contains_files(kind)]
    defaults = files if len(files) == 1 and BYTES_COLUMN not in files else (BYTES_COLUMN,)
    content = choose_column(shard, schema.names, args.image_bytes, defaults, "--image-bytes")
    texts = [name for name, kind in columns.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
    keys = [name for name in IMAGE_COLUMNS if name in texts] or [name for name in KEYS if name in texts]
    if args.image_column is None and not keys:
        return None, content
    return choose_column(shard, schema.names, args.image_column, keys, "--image-column"), content


def _contains_files(kind: pa.DataType) -> bool:
    """Return whether a column contains bytes, or images of Hugging Face: structs with bytes and a path."""
    if pa.types.is_struct(kind):
        return kind.get_field_index(STRUCT[0]) >= 0 and _contains_files(kind.field(STRUCT[0]).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _tar_images(shard: str, _args: argparse.Namespace) -> Iterator[Encoded]:
    filesystem, path = open_filesystem(shard)
    compression = "detect" if shard.lower().endswith(ZSTD) else None  # tarfile tells the others by their content
    with (
        filesystem.open_input_stream(path, compression=compression) as stream,
        tarfile.open(fileobj=stream, mode="r|*") as members,
    ):
        for member in members:
            if not is_image(member.name) or member.isdir():
                continue
            name = f"{shard}/{member.name}"
            if member.isfile():
                yield _image(name, _limited(members.extractfile(member), name, member.size))
            else:
                what = f"a link to {member.linkname}" if member.linkname else "no file"
                yield _image(name, UserError(f"{name} is {what}, which is not followed in an archive; unpack it"))


def _zip_images(shard: str, _args: argparse.Namespace) -> Iterator[Encoded]:
    filesystem, path = open_filesystem(shard)
    with filesystem.open_input_file(path) as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not is_image(member.filename) or member.is_dir():
                continue
            name = f"{shard}/{member.filename}"
            try:
                with archive.open(member) as file_in_archive:
                    content = _limited(file_in_archive, name, member.file_size)
            except (RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                content = UserError(f"{name} cannot be read: {one_line(error)}")  # encrypted, or damaged
            yield _image(name, content)


def _limited(file: IO[bytes], name: str, stated: int) -> bytes | UserError:
    """Return the content of a file in an archive, or the error that it is too large, by what is stated or unpacked."""
    content = read_at_most(file, LARGEST + 1) if stated <= LARGEST else b""
    size = max(stated, len(content))
    if size > LARGEST:
        return UserError(f"{name} has {size} bytes; the limit of an image in an archive is {LARGEST}")
    return content


def _table_images(shard: str, args: argparse.Namespace) -> Iterator[Encoded]:
    filesystem, path = open_filesystem(shard)
    with pq.ParquetFile(path, filesystem=filesystem) as table:
        key, files = choose_columns(shard, table.schema_arrow, args)
        row = 0
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=[files] if key in (None, files) else [key, files]):
            names = batch[key].to_pylist() if key is not None else [None] * len(batch)
            for name, content in zip(names, batch[files].to_pylist(), strict=True):
                data, own = map(content.get, STRUCT) if isinstance(content, dict) else (content, None)
                yield _image(f"{shard}/{own or row}" if name is None else str(name), data)
                row += 1


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
