"""Run a script's main function and end with its exit status. Imports nothing heavy."""

import errno
import os
import sys
import warnings
from collections.abc import Callable

from utils.errors import UserError, printable
from utils.files import DISK_ERRORS, not_written

BAD_PATHS = (errno.ENAMETOOLONG, errno.ELOOP)  # raised even when asking whether a file exists


def run_script(main: Callable[[], int], exit_at_once: bool = False, unread: int = 0) -> None:
    """Run `main` and exit with the status that it returns; print a user's mistake as one line on stderr.

    Args:
        main: Returns the exit status.
        exit_at_once: After `main` has returned, flush and end the process without Python's clean-up, in which taking
            torch's modules apart costs 0.4 s.
        unread: Exit status if the reader of the output has gone: 0 if that loses nothing else.
    """
    warnings.showwarning = _one_line_warning
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not in a notebook
            stream.reconfigure(errors="replace")  # a terminal or file that cannot show the bars gets question marks
    try:
        status = main()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if exit_at_once and sys.stdout is sys.__stdout__:  # else a notebook would end as well
            os._exit(status)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        status = error.status
    except BrokenPipeError:  # the reader of a pipe, such as head, has stopped reading
        _discard_output()
        status = unread
        if status:
            print("error: stopped, since the reader of the standard output has gone", file=sys.stderr)
    except OSError as error:
        if error.errno in BAD_PATHS:
            print(f"error: {printable(str(error.filename))}: {error.strerror}", file=sys.stderr)
            status = UserError.status
        elif error.errno in DISK_ERRORS and error.filename is None:
            _discard_output()
            print(f"error: {not_written('the standard output', error)}", file=sys.stderr)
            status = 1
        else:
            raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def first_line(docstring: str | None) -> str | None:
    """Return the first line of a docstring; None under `python -OO`, which omits docstrings."""
    return docstring and docstring.splitlines()[0]


def _open_closed_streams() -> None:
    """Open the standard streams that a daemon has closed: else the next files opened would take their numbers."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, open until the end


def _discard_output() -> None:
    """Let Python's clean-up flush what is left of the output without another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line_warning(message: Warning | str, *_origin) -> None:
    print(f"warning: {message}", file=sys.stderr)
