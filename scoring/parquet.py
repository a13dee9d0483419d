"""Parquet files, converted from a journal in JSON Lines; needs pyarrow."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.records import TEXT_FIELDS, ScoreRow
from utils.errors import UserError, one_line
from utils.files import write_atomically

INTEGER_FIELDS = ("panel", "rank", "width", "height")
ROWS_PER_CHUNK = 2_000  # rows in memory while a file is written or read


def schema_for(columns: Sequence[str]) -> pa.Schema:
    """Return the schema of score rows: text, integers and float64; every column may be null."""
    types = dict.fromkeys(TEXT_FIELDS, pa.string()) | dict.fromkeys(INTEGER_FIELDS, pa.int64())
    return pa.schema([(name, types.get(name, pa.float64())) for name in columns])


def write_parquet(journal: Path, output: Path, columns: Sequence[str]) -> None:
    """Write all rows of a journal as a Parquet file, completely or not at all.

    Raises:
        UserError: The file cannot be written.
    """
    schema = schema_for(columns)

    def fill(file) -> None:
        with open(journal, encoding="utf-8") as lines, pq.ParquetWriter(file, schema) as writer:
            while rows := [json.loads(line) for line in islice(lines, ROWS_PER_CHUNK)]:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    write_atomically(output, fill)


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[ScoreRow]:
    """Yield the rows of a Parquet file, a few thousand of which are in memory at a time.

    Raises:
        UserError: The file is not Parquet, or has other columns.
    """
    with arrow_errors(f"{path} cannot be read as Parquet"), pq.ParquetFile(path) as file:
        if not file.schema_arrow.equals(schema_for(columns)):
            raise UserError(f"{path} has other columns than those of this run; --overwrite replaces it")
        for batch in file.iter_batches(ROWS_PER_CHUNK):
            yield from batch.to_pylist()


@contextmanager
def arrow_errors(problem: str) -> Iterator[None]:
    """Turn errors from pyarrow and the system into a UserError that begins with the problem."""
    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{problem}: {one_line(error)}") from error
