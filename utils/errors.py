"""Errors with messages for users: scripts print them in one line and exit with their status."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

SHOWN = 100  # characters of a name or value from a file in a message


class UserError(ValueError):
    """A mistake that the user can fix; the message says what was wrong, the value, what is allowed, the next step.

    `status` is the exit status of the script.
    """

    status = 2


class MissingFileError(UserError, FileNotFoundError):
    """A required file or folder does not exist."""


class MachineError(UserError):
    """A problem of the machine rather than the command, such as a full disk or too little memory."""

    status = 1


@contextmanager
def errors_only(library: str) -> Iterator[None]:
    """Let a library's logger write errors only; its level is restored at the end of the block."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the most similar known word, ignoring case, or an empty string."""
    originals = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), list(originals), n=1)
    return f" (did you mean {originals[near[0]]!r}?)" if near else ""


def one_line(error: Exception, limit: int = 300) -> str:
    """Return the message of a library's error in one line of at most `limit` characters."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, limit)


def shortened(text: str, limit: int = 300) -> str:
    """Return the text, cut to `limit` characters including three dots if it is longer."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def printable(text: str) -> str:
    """Return the text in one line, with characters that cannot be printed escaped, such as a line break as `\\n`."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def some_of(items: Sequence[str], limit: int) -> str:
    """Return `a, b, c`, or `a, b and 7 more` if there are more than `limit` items."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
