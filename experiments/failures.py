"""Pieces of work of which one may fail without stopping the others."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from utils.errors import UserError, one_line
from utils.memory import enough_memory, release_memory

OF_TRAINING = "choose a smaller train.batch_size or transform.crop, or another train.device"


class Failures:
    """What went wrong in one of several pieces of work.

    Args:
        collecting: Whether the others go on; of a single piece of work an error is raised as it is.
    """

    def __init__(self, collecting: bool):
        self.collecting = collecting
        self.messages: list[str] = []
        self.failed = 0

    @contextmanager
    def collected(self, name: str, pieces: int = 1) -> Iterator[None]:
        """Keeps what is raised within it; the traceback of what was not foreseen goes to stderr.

        Args:
            name: Of the work, for the message.
            pieces: How many pieces of work have failed where something is raised.
        """
        try:
            with enough_memory(OF_TRAINING):
                yield
            return
        except UserError as error:
            if not self.collecting:
                raise
            message = str(error)
        except BrokenPipeError:  # nobody reads any more
            raise
        except Exception as error:
            if not self.collecting:
                raise
            traceback.print_exc()
            message = f"{type(error).__name__}: {one_line(error)}"
        self.failed += pieces
        self.messages.append(f"{name}: {message}")
        print(f"{self.messages[-1]}\nthe others go on", file=sys.stderr)

    def release(self) -> None:
        """Frees what a piece of work that failed has left; to be called outside of `collected`, which holds it."""
        if self.messages:
            release_memory()

    def require_none(self, total: int, what: str) -> None:
        """Names all of them in one error.

        Raises:
            UserError: There are any.
        """
        if self.messages:
            raise UserError(f"{self.failed} of {total} {what} failed: {'; '.join(self.messages)}")
