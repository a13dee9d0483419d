"""How a script ends: its exit status, and what a user reads of a mistake. Imports nothing heavy."""

import atexit
import os
import sys
import threading
import warnings
from collections.abc import Callable

from utils.errors import UserError, printable


def run_script(main: Callable[[], int], end: Callable[[int], None] = sys.exit) -> None:
    """Runs a script's `main` and ends with its status; an error for people is one line on stderr and its status."""
    warnings.showwarning = _one_line_warning
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a daemon may have none
        stream.reconfigure(errors="replace")  # a terminal or file that cannot show the bars gets question marks
    try:
        status = main()
        _flush()
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        status = error.status
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    end(status)


def end_at_once(status: int) -> None:
    """Ends the process as `sys.exit` does, but leaves Python as it is: taking torch's modules apart costs 0.4 s."""
    threading._shutdown()  # waits for the threads
    atexit._run_exitfuncs()
    _flush()
    os._exit(status)


def _flush() -> None:
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()


def _one_line_warning(message: Warning | str, *_origin) -> None:
    print(f"warning: {message}", file=sys.stderr)
