"""Run a script's main function and end with its exit status. Imports nothing heavy."""

import os
import sys
import warnings
from collections.abc import Callable

from utils.errors import UserError, printable


def run_script(main: Callable[[], int], exit_at_once: bool = False) -> None:
    """Run `main` and exit with the status that it returns; print a user's mistake as one line on stderr.

    Args:
        main: Returns the exit status.
        exit_at_once: After `main` has returned, flush and end the process without Python's clean-up, in which taking
            torch's modules apart costs 0.4 s.
    """
    warnings.showwarning = _one_line_warning
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a daemon may have none
        stream.reconfigure(errors="replace")  # a terminal or file that cannot show the bars gets question marks
    try:
        status = main()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        if exit_at_once:
            os._exit(status)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        status = error.status
    except BrokenPipeError:  # the reader of a pipe, such as head, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def _one_line_warning(message: Warning | str, *_origin) -> None:
    print(f"warning: {message}", file=sys.stderr)
