"""Output formats, written piece by piece: the head of a file, one piece per row, the tail.

Every format except plain text can be read back up to the point where a process was killed.
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from datasets.scale import RatingScale
from scoring.records import ScoreRow
from scoring.scale_text import parse_scale
from utils.errors import printable

BAR_WIDTH = 30
EIGHTHS = " ▏▎▍▌▋▊▉"


class RowFormat(ABC):
    """Convert score rows to text, and text back to rows."""

    resumable = True
    head = tail = ""  # before the first row, after the last
    separator = ""  # between two rows

    def __init__(self, columns: Sequence[str], checkpoint: str):
        self.columns = tuple(columns)
        self.checkpoint = checkpoint

    @property
    def beginning(self) -> str:
        """How every file of this run begins."""
        return self.head

    @abstractmethod
    def row(self, row: ScoreRow) -> str:
        """Return one row as text."""

    def read(self, file: TextIO) -> Iterator[ScoreRow]:
        """Yield the rows of a file one by one; the last may be incomplete if a process was killed while writing it.

        Args:
            file: Opened as text in which `newline` is a line feed only.

        Raises:
            ValueError: The file was not written by such a run.
        """
        raise NotImplementedError


class JsonLines(RowFormat):
    """Write one JSON object per line."""

    @property
    def beginning(self) -> str:
        return f'{{"{self.columns[0]}": "'

    def row(self, row: ScoreRow) -> str:
        return json.dumps(row, ensure_ascii=False) + "\n"

    def read(self, file: TextIO) -> Iterator[ScoreRow]:
        file.read(len(self.head))
        for line in file:
            content = line.removesuffix("\n").removesuffix(",")
            if content in ("", "]}"):
                continue
            try:
                row = json.loads(content)
            except json.JSONDecodeError:
                if not line.endswith("\n"):  # the process was killed here
                    return
                raise
            if not isinstance(row, dict) or tuple(row) != self.columns:
                raise ValueError("its rows have other fields than those of this run")
            yield row


class Json(JsonLines):
    """Write one object with `checkpoint` and `images`, one row per line."""

    separator, tail = ",", "\n]}\n"

    @property
    def head(self) -> str:
        return f'{{"checkpoint": {json.dumps(self.checkpoint, ensure_ascii=False)}, "images": ['

    beginning = head

    def row(self, row: ScoreRow) -> str:
        return "\n" + json.dumps(row, ensure_ascii=False)


class Csv(RowFormat):
    """Write a header and one row per image; fields without a value are empty."""

    @property
    def head(self) -> str:
        return _csv_line(self.columns)

    def row(self, row: ScoreRow) -> str:
        return _csv_line("" if row[name] is None else row[name] for name in self.columns)

    def read(self, file: TextIO) -> Iterator[ScoreRow]:
        for row in csv.DictReader(file):
            yield {name: row[name] or None for name in self.columns}


class Text(RowFormat):
    """Write blocks for a terminal: MOS with its scale, SOS, one bar per bin, and the shares of good and poor.

    A ranking has one line per image instead.
    """

    resumable = False

    @property
    def head(self) -> str:
        return f"checkpoint {self.checkpoint}\n" + ("\n" if "rank" in self.columns else "")

    def row(self, row: ScoreRow) -> str:
        path = printable(row["path"])
        if row["error"] is not None:
            return f"\n{path}\n  not scored: {printable(row['error'])}\n"
        if row.get("rank") is not None:
            return f"{row['rank']:4d}.  best with {100 * row['best']:5.1f} %   MOS {row['mos']:8.3f}   {path}\n"
        scale = parse_scale(row["scale"])
        lines = [
            path,
            f"  MOS {row['mos']:8.3f}  (scale {scale.describe()})",
            f"  SOS {row['sos']:8.3f}",
            *_bars(row, scale),
            f"  {100 * row['gob']:.1f} % find it good or better, {100 * row['pow']:.1f} % poor or worse",
            *_panel(row),
            *([f"  note: {row['notes']}"] if row["notes"] else []),
        ]
        return "\n" + "\n".join(lines) + "\n"


ROW_FORMATS: dict[str, type[RowFormat]] = {"text": Text, "json": Json, "jsonl": JsonLines, "csv": Csv}


def _csv_line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)  # with "\n" alone, "\r" would not be quoted
    return line.getvalue().removesuffix("\r\n") + "\n"


def _panel(row: ScoreRow) -> Iterator[str]:
    if row.get("panel") is not None:
        yield (
            f"  of panels of {row['panel']}, 90 % find {row['panel_low']:.3f} to {row['panel_high']:.3f}, and "
            f"{100 * row['panel_good']:.1f} % call it good"
        )


def _bars(row: ScoreRow, scale: RatingScale) -> Iterator[str]:
    for k, center in enumerate(scale.bin_centers, start=1):
        full, rest = divmod(round(row[f"p{k}"] * BAR_WIDTH * 8), 8)
        bar = "█" * full + (EIGHTHS[rest] if rest else "")
        yield f"  DOS {center:8g}  {bar:{BAR_WIDTH}} {100 * row[f'p{k}']:5.1f} %"
