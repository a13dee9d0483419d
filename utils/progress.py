"""Progress of long loops: a bar on a terminal, otherwise one line per minute."""

import sys
import time

from tqdm import tqdm

from utils.distributed import is_main

INTERVAL = 60.0  # seconds between lines, and before the first


class Progress:
    """Show the progress of a loop on stderr; a context manager.

    On a terminal it is a tqdm bar, removed at the end. In a file, as under nohup or SLURM, it is one line per INTERVAL,
    such as `epoch 3/50: step 120/250, loss 1.234, 45.2 images/s, 12:34 left`. Only the main process prints.

    Args:
        title: Name of the work.
        total: Number of units, or None if unknown.
        unit: Name of a unit, such as `step`.
        initial: Number of units done before.
    """

    def __init__(self, title: str, total: int | None = None, unit: str = "step", initial: int = 0):
        self.title = title
        self.total = total
        self.unit = unit
        self.initial = self.done = initial
        self.images = 0
        self.start = self.written = time.monotonic()
        self.terminal = sys.stderr.isatty()
        hidden = not (self.terminal and is_main())
        self.bar = tqdm(None, title, total, leave=False, file=sys.stderr, unit=unit, initial=initial, disable=hidden)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()

    def update(self, done: int = 1, images: int | None = None, **values: float) -> None:
        """Count the work since the last call.

        Args:
            done: Number of units.
            images: Number of images, if a unit is not an image; 0 shows no images/s.
            values: Values to show, such as the loss.
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
            print(self._line(now - self.start, texts), file=sys.stderr, flush=True)

    def _line(self, seconds: float, texts: dict[str, str]) -> str:
        seconds = max(seconds, 1e-9)
        position = f"{self.unit} {self.done}" + ("" if self.total is None else f"/{self.total}")
        clauses = [
            position,
            *(f"{name} {text}" for name, text in texts.items()),
            *([f"{self.images / seconds:.1f} images/s"] if self.images else []),
        ]
        if self.total is not None:
            left = (self.total - self.done) * seconds / max(self.done - self.initial, 1)
            clauses.append(f"{tqdm.format_interval(left)} left")
        return f"{self.title}: {', '.join(clauses)}"
