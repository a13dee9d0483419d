"""Where results go: written as they come, so that a kill costs one batch at most, and gone on with by --resume."""

import csv
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from scoring.defaults import OUTPUT_SUFFIXES, SOME_FAILED
from scoring.formats import FORMATS, Format, JsonLines
from utils.errors import UserError, one_line
from utils.files import not_written, reading, write_text

PARQUET = "parquet"
STDOUT = "-"
JOURNAL = ".part.jsonl"  # what a Parquet file is made of at the end: it cannot be read before it is whole
ROWS_AT_ONCE = 10_000  # of Parquet
SAME = ("scale", "preprocess", "checkpoint")  # fields that all records of a file share

Record = dict[str, Any]


def format_of(name: str | None, output: str | None) -> str:
    """The format that is asked for or, without, that of the file's suffix; on the terminal, text.

    Raises:
        UserError: A suffix of no format, or Parquet for the terminal.
    """
    if name is None and output is not None:
        suffix = Path(output).suffix.lower()
        if suffix not in OUTPUT_SUFFIXES:
            raise UserError(f"--output: {output} should end with {', '.join(OUTPUT_SUFFIXES)}, or name the --format")
        name = OUTPUT_SUFFIXES[suffix]
    if name == PARQUET:
        require_pyarrow()
        if output is None:
            raise UserError("--format: parquet is for a file; name it by --output")
    return name or "text"


def require_pyarrow() -> None:
    """Says what to install where Parquet cannot be written.

    Raises:
        UserError: pyarrow is missing.
    """
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415, an optional package
    except ImportError as error:
        raise UserError(
            "--format: parquet needs the package pyarrow; `pip install pyarrow`, or write csv or jsonl"
        ) from error


def require_same(record: Record, same: Record, place: str | Path) -> None:
    """Refuses to go on with what another network wrote, or other settings.

    Raises:
        UserError: A record of the output differs from what all records of this run say.
    """
    changed = [f"{key} {record[key]} then, {same[key]} now" for key in SAME if record[key] != same[key]]
    if changed:
        raise UserError(f"--resume: {place} was written with other settings: {'; '.join(changed)}")


def left_of(names: Iterable[str], done: Mapping[str, int]) -> list[int]:
    """Which images are still to be scored, where `done` says how many records each has; one may be named twice."""
    there = Counter(done)
    left = []
    for index, name in enumerate(names):
        there[name] -= 1
        if there[name] < 0:
            left.append(index)
    return left


class StrictError(UserError):
    """With --strict, the first image that cannot be scored; what was scored before it is a whole file."""

    status = SOME_FAILED


class _Row(NamedTuple):
    """A record in a file: its image, at which byte it ends, whether it is one that could not be scored."""

    path: str
    end: int
    failed: bool


class Output:
    """A file, or the standard output, that records are written to; a context manager.

    Args:
        name: Of the format.
        output: Path, or None for the standard output.
        make: From the class of a format to the format.
    """

    def __init__(self, name: str, output: str | None, make: Callable[[type[Format]], Format]):
        self.output = Path(output) if output is not None else None
        self.parquet = name == PARQUET
        self.format = make(JsonLines if self.parquet else FORMATS[name])
        self.path = self.output
        if self.parquet:
            self.path = self.output.with_name(self.output.name + JOURNAL)
        self.written = self.failed = self.others = 0
        self.stream: IO[bytes] | None = None

    def check_overwrite(self, resume: bool, overwrite: bool) -> None:
        """Refuses to lose what is there, before anything is scored.

        Raises:
            UserError: There is a file and neither is meant, or a format that cannot be gone on with.
        """
        if resume and (self.output is None or not self.format.resumable):
            raise UserError("--resume goes on with an --output of csv, jsonl, json or parquet")
        if self.output is None:
            return
        if str(self.output) == STDOUT:
            raise UserError("--output: for the standard output leave it away and name the --format")
        with reading(self.output):
            there = [path for path in (self.output, self.path) if path.exists()]
            if self.output.is_dir():
                raise UserError(f"--output: {self.output} is a folder; name a file")
            if resume and there and not all(path.is_file() for path in there):
                raise UserError(f"--resume: {self.output} is no file that can be gone on with")
        if there and not (resume or overwrite):
            raise UserError(f"--output: {there[0]} is there already; --resume goes on with it, --overwrite replaces it")

    def resume(self, names: Sequence[str], same: Record, batch_size: int) -> list[int]:
        """Which images are still to be scored, after the file is cut to the whole batches that it holds.

        `failed` is then how many of those that stay could not be scored, `others` how many are of images not named.

        Args:
            names: Of all images, as records tell them.
            same: What every record of this run says of scale, preprocessing and checkpoint.
            batch_size: Rows are kept in multiples, so that every image is scored among the same others as without
                the interruption.

        Raises:
            UserError: The file holds something else, or results of another network.
        """
        found = self._read_back(same)
        known = set(names)
        self.others = sum(row.path not in known for row in found)
        if [row.path for row in found] == list(names[: len(found)]) and len(found) < len(names):
            found = found[: len(found) // batch_size * batch_size]
        return left_of(names, self._keep(found))

    def done(self, same: Record) -> Counter[str]:
        """How many records each image has in the file, which is cut to its whole records; else as `resume`."""
        return self._keep(self._read_back(same))

    def _keep(self, rows: Sequence["_Row"]) -> Counter[str]:
        """Cuts the file to its first rows; returns how many each image has."""
        self.written, self.failed = len(rows), sum(row.failed for row in rows)
        if rows:
            with self._writing():
                os.truncate(self.path, rows[-1].end)
        return Counter(row.path for row in rows)

    def kept(self) -> Iterator[Record]:
        """The records that stay of an earlier run, after `resume`; from CSV, all values are text."""
        if self.written:
            yield from (record for record, _ in self.format.read(self.path.read_bytes()))

    def _read_back(self, same: Record) -> list["_Row"]:
        """The whole records of the file."""
        if self.parquet and self.output.exists() and not self.path.exists():
            self._restore_journal()
        found = []
        if not self.path.exists():
            return found
        with reading(self.path):
            content = self.path.read_bytes()
        try:
            for record, end in self.format.read(content):
                if not found:
                    require_same(record, same, self.path)
                found.append(_Row(record["path"], end, record["error"] is not None))
        except UserError:
            raise
        except (ValueError, RecursionError, csv.Error) as error:
            raise UserError(
                f"--resume: {self.path} cannot be gone on with: {one_line(error)}; --overwrite replaces it"
            ) from error
        return found

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
                with suppress(OSError):  # what could not be written has been said
                    self.stream.close()

    def write(self, records: Sequence[Record]) -> None:
        """Writes a batch, all the way to the system."""
        pieces = []
        for record in records:
            pieces += [self.format.separator if self.written else "", self.format.record(record)]
            self.written += 1
        self._write("".join(pieces))

    def finish(self) -> None:
        """After the last record: makes the Parquet file of its journal."""
        if self.parquet:
            from scoring.parquet import write_parquet  # noqa: PLC0415, an optional package

            write_parquet(self.path, self.output, self.format, ROWS_AT_ONCE)
            self.path.unlink()

    def _restore_journal(self) -> None:
        """A whole Parquet file as the journal that it was made of, for images that have come since."""
        from scoring.parquet import read_parquet, schema_of  # noqa: PLC0415, an optional package

        records = read_parquet(self.output, schema_of(self.format.columns))
        write_text(self.path, "".join(self.format.record(record) for record in records))

    def _write(self, text: str) -> None:
        with self._writing():
            for_people = self.output is None and not self.format.resumable
            encoding = sys.stdout.encoding if for_people and sys.stdout.encoding else "utf-8"
            self.stream.write(text.encode(encoding, "replace"))
            self.stream.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What the system says of a full disk, as an error that names the file; a closed pipe is left to the script."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise not_written(self.output or "the standard output", error) from error
