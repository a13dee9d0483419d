"""Output of score rows: written as they come, so that a kill loses one batch at most, and continued by --resume."""

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

from scoring.defaults import OUTPUT_SUFFIXES, SOME_FAILED
from scoring.formats import ROW_FORMATS, JsonLines
from scoring.records import RUN_FIELDS, ScoreRow
from utils.errors import UserError, one_line
from utils.files import choose_format, not_written, reading, write_text

PARQUET = "parquet"
STDOUT = "-"
JOURNAL = ".part.jsonl"  # a Parquet file cannot be read before it is complete, so rows go to a journal first


def row_format(name: str | None, output: str | None) -> str:
    """Return the requested format, else the one for the suffix of the output, else text.

    Raises:
        UserError: The suffix belongs to no format, or Parquet cannot be written.
    """
    form = choose_format(name, output, OUTPUT_SUFFIXES, "text")
    if form == PARQUET:
        if find_spec("pyarrow") is None:
            raise UserError("--format: parquet needs the package pyarrow; `pip install pyarrow`, or write csv or jsonl")
        if output is None:
            raise UserError("--format: parquet cannot be written to the terminal; name a file with --output")
    return form


def check_same_run(row: ScoreRow, run_fields: ScoreRow, place: str | Path) -> None:
    """Refuse to continue the output of another network or other settings.

    Raises:
        UserError: The row differs from this run in scale, preprocessing or checkpoint.
    """
    changed = [f"{key} {row[key]} then, {run_fields[key]} now" for key in RUN_FIELDS if row[key] != run_fields[key]]
    if changed:
        raise UserError(f"--resume: {place} was written with other settings: {'; '.join(changed)}")


def unscored(names: Iterable[str], done: Mapping[str, int]) -> list[int]:
    """Return the indices of the images still to be scored; `done` counts the rows of each name."""
    available = Counter(done)
    indices = []
    for index, name in enumerate(names):
        available[name] -= 1
        if available[name] < 0:
            indices.append(index)
    return indices


class StrictError(UserError):
    """With --strict, the first image that cannot be scored; the rows before it form a complete file."""

    status = SOME_FAILED


class _StoredRow(NamedTuple):
    """A row in a file: its image, the byte position after it, and whether the image failed."""

    path: str
    end: int
    failed: bool


class Output:
    """Write score rows to a file or to stdout; a context manager.

    Args:
        form: Name of the format.
        output: Path, or None for stdout.
        columns: Names of the fields.
        checkpoint: Path of the checkpoint, for formats that name it.
    """

    def __init__(self, form: str, output: str | None, columns: Sequence[str], checkpoint: str | Path):
        self.output = self.path = Path(output) if output is not None else None
        self.parquet = form == PARQUET
        self.format = (JsonLines if self.parquet else ROW_FORMATS[form])(columns, str(checkpoint))
        if self.parquet:
            self.path = self.output.with_name(self.output.name + JOURNAL)
        self.written = self.failed = self.others = 0
        self.stream: IO[bytes] | None = None

    def check_overwrite(self, resume: bool, overwrite: bool) -> None:
        """Check, before anything is scored, that no file is lost.

        Raises:
            UserError: The file exists without --resume or --overwrite, or its format cannot be continued.
        """
        if resume and (self.output is None or not self.format.resumable):
            raise UserError("--resume continues an --output in csv, jsonl, json or parquet")
        if self.output is None:
            return
        if str(self.output) == STDOUT:
            raise UserError("--output: omit it and name the --format to write to the standard output")
        with reading(self.output):
            existing = [path for path in (self.output, self.path) if path.exists()]
            if self.output.is_dir():
                raise UserError(f"--output: {self.output} is a folder; name a file")
            if resume and not all(path.is_file() for path in existing):
                raise UserError(f"--resume: {self.output} is not a regular file and cannot be continued")
        if existing and not (resume or overwrite):
            raise UserError(f"--output: {existing[0]} already exists; --resume continues it, --overwrite replaces it")

    def resume(self, names: Sequence[str], run_fields: ScoreRow, batch_size: int) -> list[int]:
        """Cut the file to its complete batches and return the indices of the images still to be scored.

        Afterwards `failed` counts the failed images among the kept rows, and `others` the rows of images not in
        `names`.

        Args:
            names: Names of all images, as rows show them.
            run_fields: Scale, preprocessing and checkpoint of this run.
            batch_size: Rows are kept in multiples of it, so that batches are the same as without the interruption.

        Raises:
            UserError: The file contains something else, or results of another network.
        """
        stored = self._read_back(run_fields)
        known = set(names)
        self.others = sum(row.path not in known for row in stored)
        if [row.path for row in stored] == list(names[: len(stored)]) and len(stored) < len(names):
            stored = stored[: len(stored) // batch_size * batch_size]
        return unscored(names, self._keep(stored))

    def done(self, run_fields: ScoreRow) -> Counter[str]:
        """Cut the file to its complete rows and count the rows of each image; raises as `resume` does."""
        return self._keep(self._read_back(run_fields))

    def kept(self) -> Iterator[ScoreRow]:
        """Yield the rows kept by `resume`; from CSV, all values are text."""
        if self.written:
            yield from (row for row, _ in self.format.read(self.path.read_bytes()))

    def _keep(self, rows: Sequence[_StoredRow]) -> Counter[str]:
        self.written, self.failed = len(rows), sum(row.failed for row in rows)
        if rows:
            with self._writing():
                os.truncate(self.path, rows[-1].end)
        return Counter(row.path for row in rows)

    def _read_back(self, run_fields: ScoreRow) -> list[_StoredRow]:
        if self.parquet and self.output.exists() and not self.path.exists():
            self._restore_journal()
        stored = []
        if not self.path.exists():
            return stored
        with reading(self.path):
            content = self.path.read_bytes()
        try:
            for row, end in self.format.read(content):
                if not stored:
                    check_same_run(row, run_fields, self.path)
                stored.append(_StoredRow(row["path"], end, row["error"] is not None))
        except UserError:
            raise
        except (ValueError, RecursionError, csv.Error) as error:
            raise UserError(
                f"--resume: {self.path} cannot be continued: {one_line(error)}; --overwrite replaces it"
            ) from error
        return stored

    def __enter__(self) -> "Output":
        if self.output is None:
            self.stream = sys.stdout.buffer
        else:
            with self._writing():
                self.output.parent.mkdir(parents=True, exist_ok=True)
                self.stream = open(self.path, "ab" if self.written else "wb")
        if not self.written:
            self._write(self.format.head())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: Any) -> None:
        try:
            if kind is None:
                self._write(self.format.tail())
        finally:
            if self.output is not None:
                with suppress(OSError):  # a failed write has already been reported
                    self.stream.close()

    def write(self, rows: Sequence[ScoreRow]) -> None:
        """Write a batch of rows and flush it."""
        pieces = []
        for row in rows:
            pieces += [self.format.separator if self.written else "", self.format.row(row)]
            self.written += 1
        self._write("".join(pieces))

    def finish(self) -> None:
        """Convert the journal to the Parquet file, after the last row."""
        if self.parquet:
            from scoring.parquet import write_parquet  # noqa: PLC0415, an optional package

            write_parquet(self.path, self.output, self.format.columns)
            self.path.unlink()

    def _restore_journal(self) -> None:
        """Convert a complete Parquet file back to its journal, so that new images can be added."""
        from scoring.parquet import read_parquet, schema_for  # noqa: PLC0415, an optional package

        rows = read_parquet(self.output, schema_for(self.format.columns))
        write_text(self.path, "".join(map(self.format.row, rows)))

    def _write(self, text: str) -> None:
        with self._writing():
            for_terminal = self.output is None and not self.format.resumable
            encoding = sys.stdout.encoding if for_terminal and sys.stdout.encoding else "utf-8"
            self.stream.write(text.encode(encoding, "replace"))
            self.stream.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn errors such as a full disk into a UserError that names the file; `run_script` handles closed pipes."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise not_written(self.output or "the standard output", error) from error
