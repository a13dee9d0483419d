"""Errors that speak to people: scripts print them in one line and exit with status 2."""

from difflib import get_close_matches


class UserError(ValueError):
    """Something the user can mend: says what was wrong, the value, what is allowed and the next step."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that should be there is not."""


def did_you_mean(word: str, known: list[str]) -> str:
    """` (did you mean X?)` for the nearest of the known words, or nothing."""
    near = get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
