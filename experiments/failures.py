"""Run several tasks of which one may fail without stopping the others."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from utils.errors import UserError, one_line
from utils.memory import enough_memory, release_memory

MEMORY_ADVICE = "choose a smaller train.batch_size or transform.crop, or another train.device"


class Failures:
    """Collect the errors of several tasks.

    Args:
        collecting: Whether the remaining tasks are run after an error. If False, the error is raised unchanged.
    """

    def __init__(self, collecting: bool):
        self.collecting = collecting
        self.messages: list[str] = []
        self.failed = 0

    @contextmanager
    def collect(self, name: str, count: int = 1) -> Iterator[None]:
        """Keep the message of an error raised in the block; print the traceback if it is not a UserError.

        Args:
            name: Name of the task, for the message.
            count: Number of tasks that fail with an error in the block.
        """
        try:
            with enough_memory(MEMORY_ADVICE):
                yield
            return
        except BrokenPipeError:  # the reader of the output has gone
            raise
        except Exception as error:
            if not self.collecting:
                raise
            message = str(error)
            if not isinstance(error, UserError):
                traceback.print_exc()
                message = f"{type(error).__name__}: {one_line(error)}"
        self.failed += count
        self.messages.append(f"{name}: {message}")
        print(f"{self.messages[-1]}\ncontinuing with the rest", file=sys.stderr)

    def release(self) -> None:
        """Free the memory of a failed task; call it outside `collect`, which still refers to it."""
        if self.messages:
            release_memory()

    def raise_any(self, total: int, noun: str) -> None:
        """Raise one error that names all failures.

        Raises:
            UserError: At least one task failed.
        """
        if self.messages:
            raise UserError(f"{self.failed} of {total} {noun} failed: {'; '.join(self.messages)}")
