"""Output of score rows: written as they come, so that a kill loses one batch at most, and continued by --resume."""

import csv
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, NamedTuple, TextIO

from scoring.defaults import OUTPUT_SUFFIXES, SOME_FAILED
from scoring.done_images import HASH_BYTES, DoneImages, name_hash
from scoring.formats import ROW_FORMATS
from scoring.records import ScoreRow
from utils.errors import UserError, one_line, shortened
from utils.files import choose_format, not_written, reading, write_atomically

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
        UserError: The row differs from this run in scale, preprocessing, checkpoint or panel.
    """
    changed = [f"{key} {row[key]} then, {now} now" for key, now in run_fields.items() if str(row[key]) != str(now)]
    if changed:
        raise UserError(f"--resume: {place} was written with other settings: {'; '.join(changed)}")


class StrictError(UserError):
    """With --strict, the first image that cannot be scored; the rows before it form a complete file."""

    status = SOME_FAILED


class _StoredRow(NamedTuple):
    """A row in a file: its image, the byte position after it, and whether the image failed."""

    path: str
    end: int
    failed: bool


class Output:
    """Write score rows to a file or to stdout.

    Args:
        form: Name of the format.
        output: Path, or None for stdout.
        columns: Names of the fields.
        checkpoint: Path of the checkpoint, for formats that name it.
    """

    def __init__(self, form: str, output: str | None, columns: Sequence[str], checkpoint: str | Path):
        self.output = self.path = Path(output) if output is not None else None
        self.parquet = import_module("scoring.parquet") if form == PARQUET else None  # needs an optional package
        self.format = ROW_FORMATS["jsonl" if self.parquet else form](columns, str(checkpoint))
        if self.parquet:
            self.path = self.output.with_name(self.output.name + JOURNAL)
        self.written = self.failed = self.position = 0

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

    def done(self, run_fields: ScoreRow, names: Iterable[str] = (), batch_size: int = 1) -> DoneImages:
        """Cut the file to its complete rows and return their images, for --resume; holds one row at a time.

        Afterwards `failed` counts the failed images among the kept rows, and `position` is the index in `names` at
        which the interrupted run continues; images before it that have no row did not pass --keep.

        Args:
            run_fields: Scale, preprocessing, checkpoint and, if there is one, panel of this run.
            names: Names of all images as rows show them, if they are scored in this order.
            batch_size: If rows are in this order, those of an incomplete batch at the end are cut, so that batches are
                the same as without the interruption.

        Raises:
            UserError: The file contains something else, or results of another network.
        """
        if self.parquet and self.output.exists() and not self.path.exists():
            rows = self.parquet.read_parquet(self.output, self.format.columns)
            write_atomically(self.path, lambda file: file.writelines(self.format.row(row).encode() for row in rows))
        names, position = enumerate(names), -1  # that of the last row; None if rows are in another order
        hashes, failed = bytearray(), 0
        whole = kept = (0, 0, 0)  # rows, bytes and failed images: of whole batches, of all
        for count, row in enumerate(self._stored_rows(run_fields), start=1):
            if position is not None:
                before, position = position, next((index for index, name in names if name == row.path), None)
                if position is not None and position // batch_size > before // batch_size:
                    whole = kept  # the rows before this one fill their batches, but for images that did not pass
            hashes += name_hash(row.path)
            failed += row.failed
            kept = (count, row.end, failed)
        if position is not None:
            self.position = position + 1
            if self.position % batch_size and next(names, None) is not None:
                self.position, kept = position // batch_size * batch_size, whole
        self.written, size, self.failed = kept
        if self.written:
            with self._writing():
                os.truncate(self.path, size)
        return DoneImages(hashes[: self.written * HASH_BYTES])

    def kept(self) -> Iterator[ScoreRow]:
        """Yield the rows kept by `done` one by one; from CSV, all values are text."""
        if self.written:
            with reading(self.path), self._opened_as_text() as file:
                yield from self.format.read(file)

    def write(self, batches: Iterable[list[ScoreRow]]) -> None:
        """Write and flush batches of rows as they come, and complete the file.

        Raises:
            UserError: The file cannot be written.
            StrictError: Raised by `batches`; the rows before it form a complete file.
        """
        stopped = None
        with self._opened() as stream:
            if not self.written:
                self._write(stream, self.format.head)
            try:
                for rows in batches:
                    self._write(stream, "".join(map(self._next, rows)))
            except StrictError as error:
                stopped = error
            self._write(stream, self.format.tail)
        if self.parquet:
            self.parquet.write_parquet(self.path, self.output, self.format.columns)
            with self._writing():
                self.path.unlink()
        if stopped is not None:
            raise stopped

    def _next(self, row: ScoreRow) -> str:
        """Return the text of the next row, and count it."""
        self.written += 1
        return (self.format.separator if self.written > 1 else "") + self.format.row(row)

    def _stored_rows(self, run_fields: ScoreRow) -> Iterator[_StoredRow]:
        """Yield the complete rows of the file, as far as they are those that this run would write."""
        if not self.path.exists():
            return
        try:
            with reading(self.path), open(self.path, "rb") as exact, self._opened_as_text("replace") as file:
                beginning = self.format.beginning.encode()
                if not beginning.startswith(exact.read(len(beginning))):  # which may be cut short
                    raise ValueError("its beginning is not that of this run's output")
                end, damaged = exact.seek(len(self.format.head.encode())), None
                for row in self.format.read(file):
                    if damaged is not None:
                        raise ValueError(f"its row {shortened(str(damaged['path']))} is damaged")
                    text = self._next(row).encode()
                    if exact.read(len(text)) != text:
                        damaged = row  # or incomplete, if it is the last: the process was killed there
                        continue
                    if self.written == 1:
                        check_same_run(row, run_fields, self.path)
                    end += len(text)
                    yield _StoredRow(row["path"], end, row["error"] is not None)
        except UserError:
            raise
        except (ValueError, RecursionError, csv.Error) as error:
            raise UserError(
                f"--resume: {self.path} cannot be continued: {one_line(error)}; --overwrite replaces it"
            ) from error

    def _opened_as_text(self, errors: str = "strict") -> TextIO:
        return open(self.path, encoding="utf-8", errors=errors, newline="\n")

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self.output is None:
            yield sys.stdout.buffer
            return
        with self._writing():
            self.output.parent.mkdir(parents=True, exist_ok=True)
            stream = open(self.path, "ab" if self.written else "wb")  # noqa: SIM115, closed below, whatever fails
        try:
            yield stream
        finally:
            with suppress(OSError):  # a failed write has already been reported
                stream.close()

    def _write(self, stream: IO[bytes], text: str) -> None:
        for_terminal = self.output is None and not self.format.resumable
        encoding = sys.stdout.encoding if for_terminal and sys.stdout.encoding else "utf-8"
        with self._writing():
            stream.write(text.encode(encoding, "replace"))
            stream.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn errors such as a full disk into a UserError that names the file; `run_script` handles closed pipes."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            how = " with --resume" if self.output and self.format.resumable else ""
            raise not_written(self.output or "the standard output", error, how) from error
