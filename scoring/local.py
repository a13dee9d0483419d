"""The local engine: one network on one device, fed by threads that decode."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import tee

from scoring.pictures import Encoded
from scoring.predictor import Prediction, Predictor, Prepared
from scoring.records import Record, Recorder
from utils.errors import UserError
from utils.progress import Progress

Scored = tuple[str, Prediction, Prepared]


@dataclass
class Tally:
    """How many images were scored, how many were not, and since when it is counted."""

    scored: int = 0
    failed: int = 0
    since: float = field(default_factory=time.monotonic)

    def add(self, records: Iterable[Record]) -> None:
        """Counts records."""
        for record in records:
            if record["error"] is None:
                self.scored += 1
            else:
                self.failed += 1

    def describe(self, memory: int | None = None) -> str:
        """`98 images scored, 2 not, in 12.3 s (8.1 images/s); peak memory 812 MB`; `memory` in bytes."""
        seconds = max(time.monotonic() - self.since, 1e-3)
        total = self.scored + self.failed
        failed = f", {self.failed} not" if self.failed else ""
        peak = f"; peak memory {memory / 1e6:.0f} MB" if memory is not None else ""
        return f"{self.scored} images scored{failed}, in {seconds:.1f} s ({total / seconds:.1f} images/s){peak}"


def score(
    paths: Sequence[str],
    predictor: Predictor,
    recorder: Recorder,
    batch_size: int,
    workers: int,
    tally: Tally,
    watch: Callable[[Scored], None] | None = None,
) -> Iterator[list[Record]]:
    """Records of images, a batch at a time, in their order; shows progress on the standard error.

    Args:
        paths: Of the images.
        predictor: Scores them.
        recorder: Makes the records.
        batch_size: How many go through the network at once.
        workers: Threads that read and decode.
        tally: Is kept.
        watch: Is shown each image that was scored, such as to draw it.
    """
    with progress(len(paths)) as bar:
        for records in records_of(paths, predictor, recorder, batch_size, workers, watch):
            tally.add(records)
            yield records
            bar.update(len(records))


def records_of(
    images: Iterable[str | Encoded],
    predictor: Predictor,
    recorder: Recorder,
    batch_size: int,
    workers: int,
    watch: Callable[[Scored], None] | None = None,
) -> Iterator[list[Record]]:
    """The same for a stream of images, paths or not, taken as they are needed; counts nothing and shows nothing."""
    sources, shown = tee(images)
    for batch in predictor.prepared_batches(shown, batch_size, workers):
        predictions = iter(predictor.predict([item for item in batch if isinstance(item, Prepared)]))
        records = []
        for item in batch:
            source = next(sources)
            path = source.name if isinstance(source, Encoded) else source
            if isinstance(item, UserError):
                records.append(recorder.failed(path, str(item)))
                continue
            prediction = next(predictions)
            records.append(recorder.scored(path, prediction, item))
            if watch is not None:
                watch((path, prediction, item))
        yield records


def progress(total: int | None) -> Progress:
    """On the standard error; None: it is not known how many images there will be."""
    return Progress("scoring", total, "image")
