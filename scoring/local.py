"""The local engine: one network on one device, fed by threads that decode."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from scoring.predictor import Prediction, Predictor, Prepared
from scoring.records import Record, Recorder
from utils.errors import UserError

Scored = tuple[str, Prediction, Prepared]


@dataclass
class Tally:
    """How many images were scored, how many were not, and since when it is counted."""

    scored: int = 0
    failed: int = 0
    since: float = field(default_factory=time.monotonic)

    def describe(self) -> str:
        """`98 images scored, 2 not, in 12.3 s (8.1 images/s); peak memory 812 MB`."""
        seconds = time.monotonic() - self.since
        total = self.scored + self.failed
        failed = f", {self.failed} not" if self.failed else ""
        memory = peak_memory()
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
    stream = iter(paths)
    with tqdm(total=len(paths), unit="image", desc="scoring", leave=False, disable=None, file=sys.stderr) as bar:
        for batch in predictor.prepared_batches(paths, batch_size, workers):
            predictions = iter(predictor.predict([item for item in batch if isinstance(item, Prepared)]))
            records = []
            for item in batch:
                path = next(stream)
                if isinstance(item, UserError):
                    records.append(recorder.failed(path, str(item)))
                    tally.failed += 1
                    continue
                prediction = next(predictions)
                records.append(recorder.scored(path, prediction, item))
                tally.scored += 1
                if watch is not None:
                    watch((path, prediction, item))
            yield records
            bar.update(len(batch))


def peak_memory() -> int | None:
    """The most memory that this process has held, in bytes; None where the system does not tell."""
    try:
        import resource  # noqa: PLC0415, not on every system
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
