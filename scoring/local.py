"""The local engine: one network on one device, with threads that decode images."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scoring.pictures import Encoded
from scoring.predictor import Prediction, Predictor, Prepared
from scoring.records import RowBuilder, ScoreRow
from utils.progress import Progress

OnScored = Callable[[str, Prediction, Prepared], None]


@dataclass
class Tally:
    """Count scored and failed images, and measure the time."""

    scored: int = 0
    failed: int = 0
    start: float = field(default_factory=time.monotonic)

    def add(self, rows: Sequence[ScoreRow]) -> None:
        """Count score rows."""
        failed = sum(row["error"] is not None for row in rows)
        self.failed += failed
        self.scored += len(rows) - failed

    def describe(self, memory: int | None = None) -> str:
        """Return `98 images scored, 2 not, in 12.3 s (8.1 images/s); peak memory 812 MB`; `memory` is in bytes."""
        seconds = max(time.monotonic() - self.start, 1e-3)
        total = self.scored + self.failed
        failed = f", {self.failed} not" if self.failed else ""
        peak = f"; peak memory {memory / 1e6:.0f} MB" if memory is not None else ""
        return f"{self.scored} images scored{failed}, in {seconds:.1f} s ({total / seconds:.1f} images/s){peak}"


def score_rows(
    images: Iterable[str | Encoded],
    predictor: Predictor,
    row_builder: RowBuilder,
    batch_size: int,
    workers: int,
    on_scored: OnScored | None = None,
) -> Iterator[list[ScoreRow]]:
    """Score images and yield their rows batch by batch, in the order of the images.

    Args:
        images: Paths or encoded images, read from the stream only when they are needed.
        predictor: Scores the images.
        row_builder: Builds the rows.
        batch_size: Number of images per forward pass.
        workers: Number of threads that read and decode.
        on_scored: Called with path, prediction and prepared views of each scored image.
    """
    for batch in predictor.scored_batches(images, batch_size, workers):
        rows = []
        for image, prepared, prediction in batch:
            path = image.name if isinstance(image, Encoded) else image
            if prepared is None:
                rows.append(row_builder.failed(path, str(prediction)))
                continue
            rows.append(row_builder.scored(path, prediction, prepared))
            if on_scored is not None:
                on_scored(path, prediction, prepared)
        yield rows


def with_progress(batches: Iterable[list[ScoreRow]], tally: Tally, total: int | None) -> Iterator[list[ScoreRow]]:
    """Pass on batches of rows while counting them and showing progress on stderr; `total` None means unknown."""
    with Progress("scoring", total, "image") as progress:
        for rows in batches:
            tally.add(rows)
            yield rows
            progress.update(len(rows))
