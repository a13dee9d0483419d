"""How a script ends: its exit status, and what a user reads of a mistake. Imports nothing heavy."""

import os
import sys
import warnings
from collections.abc import Callable

from utils.errors import UserError, printable


def run_script(main: Callable[[], int]) -> None:
    """Runs a script's `main` and exits with its status; an error for people is one line on stderr and its status."""
    warnings.showwarning = _one_line_warning
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a daemon may have none
        stream.reconfigure(errors="replace")  # a terminal or file that cannot show the bars gets question marks
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.status)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _one_line_warning(message: Warning | str, *_origin) -> None:
    print(f"warning: {message}", file=sys.stderr)
