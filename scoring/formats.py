"""The formats that results are written in, a piece at a time: what begins a file, each record, what ends it.

Each can be read back up to where a killed process stopped.
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from datasets.scale import RatingScale
from scoring.scale_text import parse_scale
from utils.errors import shortened

BAR_WIDTH = 30
EIGHTHS = " ▏▎▍▌▋▊▉"

Record = dict[str, Any]


class Format(ABC):
    """How records become text."""

    resumable = True
    separator = ""  # between two records

    def __init__(self, columns: Sequence[str], checkpoint: str):
        self.columns = tuple(columns)
        self.checkpoint = checkpoint

    def head(self) -> str:
        """What stands before the first record."""
        return ""

    @abstractmethod
    def record(self, record: Record) -> str:
        """A record."""

    def tail(self) -> str:
        """What stands after the last record."""
        return ""

    def read(self, content: bytes) -> Iterator[tuple[Record, int]]:
        """Whole records at the beginning of a file, and at which byte each ends; stops where one is not whole.

        Raises:
            ValueError: The file begins with something else, or is in a format for people.
        """
        raise ValueError(f"{len(content)} bytes of text for people cannot be read back")


class JsonLines(Format):
    """One JSON object a line."""

    def record(self, record: Record) -> str:
        return as_json(record) + "\n"

    def read(self, content: bytes) -> Iterator[tuple[Record, int]]:
        end, beginning = 0, f'{{"{self.columns[0]}": "'.encode()
        if not (content.startswith(beginning) or beginning.startswith(content)):
            raise ValueError("it does not begin as this run's output would")
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield _object(line, self.columns), end


class Json(Format):
    """One object, `checkpoint` and `images`, each record on a line of its own."""

    separator = ","

    def head(self) -> str:
        return f'{{"checkpoint": {json.dumps(self.checkpoint, ensure_ascii=False)}, "images": ['

    def record(self, record: Record) -> str:
        return "\n" + as_json(record)

    def tail(self) -> str:
        return "\n]}\n"

    def read(self, content: bytes) -> Iterator[tuple[Record, int]]:
        head = self.head().encode()
        if not content.startswith(head):
            if head.startswith(content):
                return
            raise ValueError("it does not begin as this run's output would")
        end = len(head)
        lines = content[end:].split(b"\n")[1:]
        for number, line in enumerate(lines, start=1):
            text = line.removesuffix(b",")
            if text == b"]}":
                return
            try:
                record = _object(text, self.columns)
            except (json.JSONDecodeError, UnicodeDecodeError):
                if number == len(lines):  # where the process was killed
                    return
                raise
            end += (1 if content[end : end + 1] == b"\n" else 2) + len(text)
            yield record, end


class Csv(Format):
    """A header row, then a row for each record; empty where there is nothing."""

    def head(self) -> str:
        return _csv_line(self.columns)

    def record(self, record: Record) -> str:
        return _csv_line("" if record[name] is None else record[name] for name in self.columns)

    def read(self, content: bytes) -> Iterator[tuple[Record, int]]:
        head = self.head().encode()
        if not content.startswith(head):
            if head.startswith(content):
                return
            raise ValueError("its header row is not the one of this run")
        begun, consumed = len(head), [len(head)]

        def lines() -> Iterator[str]:
            for line in content[len(head) :].splitlines(keepends=True):
                consumed[0] += len(line)
                yield line.decode("utf-8", "replace")

        for row in csv.reader(lines()):
            written = content[begun : consumed[0]]
            if len(row) != len(self.columns) or not written.endswith(b"\n") or written.count(b'"') % 2:
                if consumed[0] < len(content):
                    raise ValueError(f"its row of {shortened(row[0])} is damaged")
                return  # where the process was killed, within quotation marks if their number is odd
            begun = consumed[0]
            yield {name: value or None for name, value in zip(self.columns, row, strict=True)}, consumed[0]


class Text(Format):
    """Blocks for a terminal: MOS with its scale, SOS, and a bar for each bin."""

    resumable = False

    def head(self) -> str:
        return f"checkpoint {self.checkpoint}\n"

    def record(self, record: Record) -> str:
        path = on_one_line(record["path"])
        if record["error"] is not None:
            return f"\n{path}\n  not scored: {on_one_line(record['error'])}\n"
        scale = parse_scale(record["scale"])
        lines = [
            path,
            f"  MOS {record['mos']:8.3f}  (scale {scale.describe()})",
            f"  SOS {record['sos']:8.3f}",
            *_bars(record, scale),
            *([f"  note: {record['notes']}"] if record["notes"] else []),
        ]
        return "\n" + "\n".join(lines) + "\n"


FORMATS: dict[str, type[Format]] = {"text": Text, "json": Json, "jsonl": JsonLines, "csv": Csv}


def as_json(record: Record) -> str:
    """A record on one line."""
    return json.dumps(record, ensure_ascii=False)


def _object(line: bytes, columns: Sequence[str]) -> Record:
    record = json.loads(line)
    if not isinstance(record, dict) or tuple(record) != tuple(columns):
        raise ValueError("its records have other fields than those of this run")
    return record


def _csv_line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)  # with "\n" alone, "\r" would not be quoted
    return line.getvalue().removesuffix("\r\n") + "\n"


def _bars(record: Record, scale: RatingScale) -> list[str]:
    shares = [record[f"p{k}"] for k in range(1, scale.num_bins + 1)]
    return [
        f"  DOS {center:8g}  {_bar(share)} {100 * share:5.1f} %"
        for center, share in zip(scale.bin_centers, shares, strict=True)
    ]


def _bar(share: float) -> str:
    full, rest = divmod(round(share * BAR_WIDTH * 8), 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(BAR_WIDTH)


def on_one_line(text: str) -> str:
    """A text whose control characters cannot disturb a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
