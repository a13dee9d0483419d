"""Parquet files, made of a journal in JSON Lines; needs pyarrow."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.formats import Format
from utils.errors import UserError, one_line
from utils.files import write_atomically

TEXTS = ("path", "scale", "preprocess", "checkpoint", "notes", "error")
WHOLE_NUMBERS = ("width", "height")


def schema_of(columns: tuple[str, ...]) -> pa.Schema:
    """Texts, whole numbers and float64; every column may be null."""
    kinds = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(WHOLE_NUMBERS, pa.int64())
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])


def write_parquet(journal: Path, output: Path, form: Format, rows_at_once: int) -> None:
    """A Parquet file of all records of a journal, whole or not at all, `rows_at_once` in memory.

    Raises:
        UserError: The place cannot be written.
    """
    schema = schema_of(form.columns)

    def fill(file) -> None:
        with open(journal, encoding="utf-8") as lines, pq.ParquetWriter(file, schema) as writer:
            while rows := [json.loads(line) for line in islice(lines, rows_at_once)]:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    write_atomically(output, fill)


def read_parquet(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """All records of a Parquet file.

    Raises:
        UserError: It is none, or one with other columns.
    """
    try:
        table = pq.read_table(path)
        if not table.schema.equals(schema):
            raise UserError(f"{path} has other columns than those of this run; --overwrite replaces it")
        return table.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {one_line(error)}") from error
