"""Errors that speak to people: scripts print them in one line and exit with status 2."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user can mend: says what was wrong, the value, what is allowed and the next step.

    `status` is what a script that ends with it exits with.
    """

    status = 2


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that should be there is not."""


class MachineError(UserError):
    """The machine, not the command, stands in the way: a full disk, memory that is not enough."""

    status = 1


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the nearest of the known words, whatever their case, or nothing."""
    spelt = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), list(spelt), n=1)
    return f" (did you mean {spelt[near[0]]!r}?)" if near else ""


def one_line(error: Exception, limit: int = 300) -> str:
    """The message of an error that a library raised, in one line of at most `limit` characters."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, limit)


def shortened(text: str, limit: int = 300) -> str:
    """The text, or its beginning and three dots where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def printable(text: str) -> str:
    """The text in one line, such as the name of a folder: what cannot be shown as its code, a line break as `\\n`."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def some_of(items: Sequence[str], limit: int) -> str:
    """`a, b, c`, or `a, b and 7 more` where there are more than `limit`."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
