"""Output formats, written piece by piece: the head of a file, one piece per row, the tail.

Every format except plain text can be read back up to the point where a process was killed.
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from datasets.scale import RatingScale
from scoring.records import ScoreRow
from scoring.scale_text import parse_scale
from utils.errors import shortened

BAR_WIDTH = 30
EIGHTHS = " ▏▎▍▌▋▊▉"


class RowFormat(ABC):
    """Convert score rows to text, and text back to rows."""

    resumable = True
    separator = ""  # between two rows

    def __init__(self, columns: Sequence[str], checkpoint: str):
        self.columns = tuple(columns)
        self.checkpoint = checkpoint

    def head(self) -> str:
        """Return the text before the first row."""
        return ""

    @abstractmethod
    def row(self, row: ScoreRow) -> str:
        """Return one row as text."""

    def tail(self) -> str:
        """Return the text after the last row."""
        return ""

    def read(self, content: bytes) -> Iterator[tuple[ScoreRow, int]]:
        """Yield the complete rows of a file with the byte position after each; stop at an incomplete row.

        Raises:
            ValueError: The file was not written by such a run, or the format is plain text.
        """
        raise ValueError(f"{len(content)} bytes of plain text cannot be read back")

    def _body_start(self, content: bytes, beginning: str) -> int:
        """Return the position after the head; `beginning` is how every file of this run begins."""
        expected = beginning.encode()
        if not (content.startswith(expected) or expected.startswith(content)):
            raise ValueError("its beginning is not that of this run's output")
        return len(self.head().encode())

    def _parse(self, line: bytes) -> ScoreRow:
        row = json.loads(line)
        if not isinstance(row, dict) or tuple(row) != self.columns:
            raise ValueError("its rows have other fields than those of this run")
        return row


class JsonLines(RowFormat):
    """Write one JSON object per line."""

    def row(self, row: ScoreRow) -> str:
        return json.dumps(row, ensure_ascii=False) + "\n"

    def read(self, content: bytes) -> Iterator[tuple[ScoreRow, int]]:
        end = self._body_start(content, f'{{"{self.columns[0]}": "')
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield self._parse(line), end


class Json(RowFormat):
    """Write one object with `checkpoint` and `images`, one row per line."""

    separator = ","

    def head(self) -> str:
        return f'{{"checkpoint": {json.dumps(self.checkpoint, ensure_ascii=False)}, "images": ['

    def row(self, row: ScoreRow) -> str:
        return "\n" + json.dumps(row, ensure_ascii=False)

    def tail(self) -> str:
        return "\n]}\n"

    def read(self, content: bytes) -> Iterator[tuple[ScoreRow, int]]:
        end = self._body_start(content, self.head())
        lines = content[end:].split(b"\n")[1:]
        for number, line in enumerate(lines, start=1):
            text = line.removesuffix(b",")
            if text == b"]}":
                return
            try:
                row = self._parse(text)
            except (json.JSONDecodeError, UnicodeDecodeError):
                if number == len(lines):  # the process was killed here
                    return
                raise
            end += (1 if content[end : end + 1] == b"\n" else 2) + len(text)
            yield row, end


class Csv(RowFormat):
    """Write a header and one row per image; fields without a value are empty."""

    def head(self) -> str:
        return _csv_line(self.columns)

    def row(self, row: ScoreRow) -> str:
        return _csv_line("" if row[name] is None else row[name] for name in self.columns)

    def read(self, content: bytes) -> Iterator[tuple[ScoreRow, int]]:
        start = end = self._body_start(content, self.head())

        def lines() -> Iterator[str]:
            nonlocal end
            for line in content[start:].splitlines(keepends=True):
                end += len(line)
                yield line.decode("utf-8", "replace")

        row_start = start
        for cells in csv.reader(lines()):
            written = content[row_start:end]
            if len(cells) != len(self.columns) or not written.endswith(b"\n") or written.count(b'"') % 2:
                if end < len(content):
                    raise ValueError(f"its row {shortened(cells[0])} is damaged")
                return  # the process was killed here; an odd number of quotation marks means within a quoted cell
            row_start = end
            yield {name: value or None for name, value in zip(self.columns, cells, strict=True)}, end


class Text(RowFormat):
    """Write blocks for a terminal: MOS with its scale, SOS, and one bar per bin."""

    resumable = False

    def head(self) -> str:
        return f"checkpoint {self.checkpoint}\n"

    def row(self, row: ScoreRow) -> str:
        path = on_one_line(row["path"])
        if row["error"] is not None:
            return f"\n{path}\n  not scored: {on_one_line(row['error'])}\n"
        scale = parse_scale(row["scale"])
        lines = [
            path,
            f"  MOS {row['mos']:8.3f}  (scale {scale.describe()})",
            f"  SOS {row['sos']:8.3f}",
            *_bars(row, scale),
            *([f"  note: {row['notes']}"] if row["notes"] else []),
        ]
        return "\n" + "\n".join(lines) + "\n"


ROW_FORMATS: dict[str, type[RowFormat]] = {"text": Text, "json": Json, "jsonl": JsonLines, "csv": Csv}


def on_one_line(text: str) -> str:
    """Return a text with its control characters escaped, safe for a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _csv_line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)  # with "\n" alone, "\r" would not be quoted
    return line.getvalue().removesuffix("\r\n") + "\n"


def _bars(row: ScoreRow, scale: RatingScale) -> Iterator[str]:
    for k, center in enumerate(scale.bin_centers, start=1):
        full, rest = divmod(round(row[f"p{k}"] * BAR_WIDTH * 8), 8)
        bar = "█" * full + (EIGHTHS[rest] if rest else "")
        yield f"  DOS {center:8g}  {bar:{BAR_WIDTH}} {100 * row[f'p{k}']:5.1f} %"
