"""Run a script's main function and end with its exit status. Imports nothing heavy."""

import atexit
import errno
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Timer, current_thread, main_thread
from types import FrameType
from typing import Any

from utils.errors import UserError, printable
from utils.files import DISK_ERRORS, not_written

BAD_PATHS = (errno.ENAMETOOLONG, errno.ELOOP)  # raised even when asking whether a file exists
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what clusters and service managers send
INTERRUPTED = 130  # exit status
SOON = 0.01  # seconds, by which `__del__` or the like has ended

_interrupted = Event()  # set by the first signal


def run_script(main: Callable[[], int], exit_at_once: bool = False, unread: int = 0) -> None:
    """Run `main` and exit with the status that it returns; print a user's mistake as one line on stderr.

    Ctrl-C and SIGTERM raise KeyboardInterrupt in `main`; a second one ends the process at once.

    Args:
        main: Returns the exit status.
        exit_at_once: After `main` has returned, flush and end the process without Python's clean-up, in which taking
            torch's modules apart costs 0.4 s.
        unread: Exit status if the reader of the output has gone: 0 if that loses nothing else.
    """
    _end_imports()
    warnings.showwarning = _one_line_warning
    sys.unraisablehook = _interrupt_again
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not in a notebook
            stream.reconfigure(errors="replace")  # a terminal or file that cannot show the bars gets question marks
    _interrupted.clear()
    if hasattr(signal, "pthread_sigmask"):  # late in its clean-up, Python takes back its handlers; Ctrl-C would kill it
        atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, SIGNALS)
    try:
        handle_signals(_interrupt)
        status = main()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if exit_at_once and sys.stdout is sys.__stdout__:  # else a notebook would end as well
            os._exit(status)
    except SystemExit:
        raise
    except BaseException as error:
        status = _print_error(error, unread)
    handle_signals(lambda *_: os._exit(status))  # from now on there is only Python's clean-up
    sys.exit(status)


def start_imports() -> None:
    """Prepare for slow imports: until `run_script` is called, Ctrl-C and SIGTERM end the process at once with one line.

    Imports turn a KeyboardInterrupt into other errors, or lose it. Python's search for garbage pauses as well: imports
    leave hardly any, and the search takes a tenth of their time.
    """
    handle_signals(_end)
    gc.disable()


@contextmanager
def slow_imports() -> Iterator[None]:
    """Do the same in a block, if `run_script` handles signals."""
    ours = signal.getsignal(signal.SIGTERM) is _interrupt
    if ours:
        start_imports()
    try:
        yield
    finally:
        if ours:
            _end_imports()
            handle_signals(_interrupt)


def _end_imports() -> None:
    """Search for garbage again, if the search pauses, but not in what was imported: that stays until the end."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Set the handler of Ctrl-C and SIGTERM, unless they are ignored, as under nohup."""
    if current_thread() is main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _interrupted.is_set():
        _end(number, frame)
    _interrupted.set()
    raise KeyboardInterrupt


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")  # a signal may come while sys.stderr is being written
    os._exit(INTERRUPTED)


def _interrupt_again(ignored: Any) -> None:
    """Repeat a signal whose KeyboardInterrupt Python ignores, as in `__del__`; print other errors that it ignores."""
    number = next((each for each in SIGNALS if signal.getsignal(each) is _interrupt), None)
    if number is None or not isinstance(ignored.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    _interrupted.clear()
    Timer(SOON, os.kill, (os.getpid(), number)).start()


def _print_error(error: BaseException, unread: int) -> int:
    """Print an error in one line and return the exit status; raise it again if it is not one that a user can mend."""
    if isinstance(error, KeyboardInterrupt) or _interrupted.is_set():  # libraries turn it into other errors
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, UserError):
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return error.status
    if isinstance(error, BrokenPipeError):  # the reader of a pipe, such as head, has stopped reading
        _discard_output()
        if unread:
            print("error: stopped, since the reader of the standard output has gone", file=sys.stderr)
        return unread
    if isinstance(error, OSError) and error.errno in BAD_PATHS:
        print(f"error: {printable(str(error.filename))}: {error.strerror}", file=sys.stderr)
        return UserError.status
    if isinstance(error, OSError) and error.errno in DISK_ERRORS and error.filename is None:
        _discard_output()
        print(f"error: {not_written('the standard output', error)}", file=sys.stderr)
        return 1
    raise error


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
