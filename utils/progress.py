"""How far a long piece of work has come: a bar on a terminal, elsewhere a line every minute."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from utils.distributed import is_main

INTERVAL = 60.0  # seconds from one line to the next, and before the first


class Progress:
    """Shows on the standard error how far a loop has come; a context manager.

    On a terminal it is tqdm's bar, which is gone afterwards. In a file, as under nohup or SLURM, it is a line every
    INTERVAL, such as `epoch 3/50: step 120/250, loss 1.234, 45.2 images/s, 12:34 left`. Of several processes, the main
    one alone writes.

    Args:
        title: What is done.
        total: Units in all, None where that is not known.
        unit: What is counted, such as `step`.
        initial: Units that were done before.
    """

    def __init__(self, title: str, total: int | None = None, unit: str = "step", initial: int = 0):
        self.title = title
        self.total = total
        self.unit = unit
        self.initial = self.done = initial
        self.images = 0
        self.begun = self.written = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total,
            desc=title,
            unit=unit,
            initial=initial,
            leave=False,
            file=sys.stderr,
            disable=not (self.terminal and is_main()),
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar away."""
        self.bar.close()

    def update(self, done: int = 1, images: int | None = None, **values: float) -> None:
        """Counts what was done since the last call.

        Args:
            done: Units.
            images: How many images these are, where a unit is none.
            values: What is shown beside, such as the loss.
        """
        self.done += done
        self.images += done if images is None else images
        texts = {name: f"{value:.3f}" for name, value in values.items()}
        if texts:
            self.bar.set_postfix(texts, refresh=False)
        self.bar.update(done)
        now = time.monotonic()
        if not self.terminal and is_main() and now - self.written >= INTERVAL:
            self.written = now
            print(self._line(now - self.begun, texts), file=sys.stderr, flush=True)

    def _line(self, seconds: float, texts: dict[str, str]) -> str:
        """What is written, `seconds` after the begin."""
        seconds = max(seconds, 1e-9)
        place = f"{self.unit} {self.done}" + ("" if self.total is None else f"/{self.total}")
        clauses = [place, *(f"{name} {text}" for name, text in texts.items()), f"{self.images / seconds:.1f} images/s"]
        if self.total is not None:
            left = (self.total - self.done) * seconds / max(self.done - self.initial, 1)
            clauses.append(f"{tqdm.format_interval(left)} left")
        return f"{self.title}: {', '.join(clauses)}"
