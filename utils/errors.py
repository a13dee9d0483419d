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


def one_line(error: Exception, limit: int = 300) -> str:
    """The message of an error that a library raised, in one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
