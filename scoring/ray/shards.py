"""Files with many images inside: tar files, as WebDataset has them, and Parquet tables with a column of image files.

They are read as streams. What of one cannot be read becomes one more image, which raises when it is opened: it has a
row with its error then, and what came before it keeps its rows.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.defaults import IMAGE_BYTES, IMAGE_COLUMNS, SUFFIXES
from scoring.pictures import Encoded
from scoring.ray.remote_files import filesystem_of
from utils.errors import UserError, did_you_mean, one_line

ROWS_AT_ONCE = 16  # of a Parquet table
PARQUET = ".parquet"


@dataclass(frozen=True)
class Columns:
    """Which columns of Parquet tables are meant.

    Args:
        image: Of the names of images; None: `image` or `path`.
        content: Of their bytes; None: `bytes`.
    """

    image: str | None = None
    content: str | None = None


def images_in(shard: str, columns: Columns) -> Iterator[Encoded]:
    """The images of a shard, in its order; those of a tar file are called SHARD/MEMBER."""
    inside = _images_of_table(shard, columns) if _is_parquet(shard) else _images_of_tar(shard)
    try:
        yield from inside
    except FileNotFoundError:
        yield _unreadable(shard, f"{shard} does not exist")
    except UserError as error:
        yield _unreadable(shard, str(error))
    except (tarfile.TarError, pa.ArrowException, OSError, EOFError) as error:
        yield _unreadable(shard, f"{shard} cannot be read to its end: {one_line(error)}")


def require_columns(shards: list[str], columns: Columns) -> None:
    """Looks for the columns in the first table, if there is one that can be read.

    Raises:
        UserError: They are not there.
    """
    for shard in filter(_is_parquet, shards):
        filesystem, path = filesystem_of(shard)
        try:
            schema = pq.read_schema(path, filesystem=filesystem)
        except (pa.ArrowException, OSError):
            continue  # its row will say so
        _chosen(shard, schema.names, columns)
        return


def _images_of_tar(shard: str) -> Iterator[Encoded]:
    filesystem, path = filesystem_of(shard)
    with filesystem.open_input_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as members:
        for member in members:
            suffix = os.path.splitext(member.name)[1].lower()
            if not member.isfile() or suffix not in SUFFIXES or os.path.basename(member.name).startswith("."):
                continue
            content = members.extractfile(member).read()
            yield _image(f"{shard}/{member.name}", content)


def _images_of_table(shard: str, columns: Columns) -> Iterator[Encoded]:
    filesystem, path = filesystem_of(shard)
    with pq.ParquetFile(path, filesystem=filesystem) as table:
        image, content = _chosen(shard, table.schema_arrow.names, columns)
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=[image, content]):
            for name, data in zip(batch[image].to_pylist(), batch[content].to_pylist(), strict=True):
                yield _image(str(name), data)


def _chosen(shard: str, names: list[str], columns: Columns) -> tuple[str, str]:
    """The columns of names and of bytes."""
    candidates = [columns.image] if columns.image is not None else [name for name in IMAGE_COLUMNS if name in names]
    content = columns.content or IMAGE_BYTES
    if content not in names:
        raise UserError(
            f"{shard}: no column {content!r}{did_you_mean(content, names)}; name that of the image files by "
            f"--image-bytes: {', '.join(names)}"
        )
    if len(candidates) != 1 or candidates[0] not in names:
        wanted = " or ".join(repr(name) for name in ([columns.image] if columns.image is not None else IMAGE_COLUMNS))
        raise UserError(
            f"{shard}: not one column {wanted}; name that of the images' names by --image-column: {', '.join(names)}"
        )
    return candidates[0], content


def _is_parquet(shard: str) -> bool:
    return shard.lower().endswith(PARQUET)


def _image(name: str, content: bytes | None) -> Encoded:
    def read() -> bytes:
        if content is None or isinstance(content, bytes):
            return content or b""
        raise UserError(f"{name}: its column holds no bytes but {type(content).__name__}; --image-bytes names another")

    return Encoded(name, read)


def _unreadable(shard: str, message: str) -> Encoded:
    def fail() -> bytes:
        raise UserError(message)

    return Encoded(shard, fail)
