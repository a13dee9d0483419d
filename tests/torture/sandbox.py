"""Hostile inputs, tried in a child process that may use little memory and time, open few files and start nothing."""

import faulthandler
import json
import mmap
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import MachineError, UserError

ROOT = Path(__file__).parents[2]
SECONDS, MEMORY = 20, 2**30  # of one input, and of the child beyond what it inherits
LONGEST_MESSAGE = 20_000  # characters of an error
MOST_CRASHES = 20  # of one call, after which the remaining inputs are not tried
CODE = tuple({os.path.realpath(path) for path in (ROOT, sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())})
READABLE = ("/dev/null", "/etc/localtime", "/usr/share/zoneinfo/", "/proc/self/", "/sys/fs/cgroup/", "/etc/mime.types")
FORBIDDEN = {  # audit events
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn", "os.startfile"),
    *("subprocess.Popen", "socket.connect", "socket.bind", "urllib.Request", "webbrowser.open", "pickle.find_class"),
    *("code.__new__", "ctypes.dlopen", "shutil.rmtree", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod"),
}
EVALUATION = {"exec", "compile"}  # forbidden, except for modules that are imported, and in
CLASS_MAKERS = (os.path.join("collections", "__init__.py"), "dataclasses.py", "typing.py")

Input = Callable[[], object]


class Watch:
    """What a child process does that no reader of files may do; collected by an audit hook, which cannot be removed.

    Args:
        folder: The only folder outside the installed code whose files may be opened.
        allowed: Events that are allowed although they are forbidden otherwise.
    """

    def __init__(self, folder: Path, allowed: tuple[str, ...] = ()):
        self.folder = os.path.realpath(folder)
        self.forbidden = FORBIDDEN.difference(allowed)
        self.evaluation = EVALUATION.difference(allowed)
        self.found: list[str] = []
        self.armed = False
        sys.addaudithook(self._see)

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Collect in the block what is forbidden."""
        self.found.clear()
        self.armed = True
        try:
            yield
        finally:
            self.armed = False

    def _see(self, event: str, args: tuple) -> None:
        if not self.armed:
            return
        if event in self.forbidden or (event in self.evaluation and not _is_import(args) and not _makes_class()):
            self.found.append(f"{event}{args!r:.200}")
        elif event == "open" and isinstance(args[0], (str, bytes)):
            self._see_open(os.path.realpath(os.fsdecode(args[0])), args[2])

    def _see_open(self, path: str, flags: int) -> None:
        below = (path + os.sep).startswith(self.folder + os.sep)
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if not below and (writes or not path.startswith((*CODE, *READABLE))):
            self.found.append(f"open({path!r}, {'write' if writes else 'read'})")


def _makes_class() -> bool:
    return sys._getframe(2).f_code.co_filename.endswith(CLASS_MAKERS)


def _is_import(args: tuple) -> bool:
    """Return whether code that is executed or compiled is that of an installed module."""
    names = [getattr(part, "co_filename", part) for part in args]
    paths = [name for name in names if isinstance(name, str) and os.path.isabs(name)]
    return any(os.path.realpath(path).startswith(CODE) for path in paths)


def try_inputs(
    count: int,
    make: Callable[[int], Input],
    folder: Path,
    allowed: tuple[str, ...] = (),
    seconds: int = SECONDS,
    memory: int = MEMORY,
    errors: tuple[type[Exception], ...] = (UserError,),
) -> dict[int, str]:
    """Try inputs in forked children; return what went wrong, by number of the input.

    Args:
        count: Number of inputs.
        make: Returns the call that reads an input, from its number; what it does is not watched.
        folder: Where inputs are; the only place that may be read.
        allowed: Audit events that are allowed here.
        seconds: Limit of each input.
        memory: Limit of a child beyond what it inherits, in bytes.
        errors: Exceptions that are an answer.
    """
    progress = mmap.mmap(-1, 8)
    log = folder / "problems.jsonl"
    log.touch()
    found: dict[int, str] = {}
    start = 0
    while start < count and len(found) < MOST_CRASHES:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _work(range(start, count), make, Watch(folder, allowed), (seconds, memory), errors, (progress, log))
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        number = int.from_bytes(progress[:8], "little")
        signalled = os.WIFSIGNALED(status)
        found[number] = f"killed by {signal.Signals(os.WTERMSIG(status)).name}" if signalled else "ended the process"
        start = number + 1
    found |= dict(json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    log.unlink()
    return dict(sorted(found.items()))


def _work(
    numbers: range,
    make: Callable[[int], Input],
    watch: Watch,
    limits: tuple[int, int],
    errors: tuple[type[Exception], ...],
    report: tuple[mmap.mmap, Path],
) -> None:
    seconds, memory = limits
    faulthandler.disable()  # of a test
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * mmap.PAGESIZE + memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    progress, log = report
    for number in numbers:
        progress[:8] = number.to_bytes(8, "little")
        read = make(number)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        problem = _problem(read, watch, errors)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if problem:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps([number, problem]) + "\n")


def _problem(read: Input, watch: Watch, errors: tuple[type[Exception], ...]) -> str:
    """Return what is wrong with the way in which an input is read; an empty string if nothing is."""
    problem = ""
    try:
        with watch.strict():
            read()
    except errors as error:
        message = str(error)
        if isinstance(error, MachineError) or "not enough memory" in message:
            problem = f"memory: {message[:200]!r}"
        elif not message or len(message) > LONGEST_MESSAGE:
            problem = f"message of {len(message)} characters: {message[:200]!r}"
    except BaseException as error:
        problem = f"{type(error).__name__}: {str(error)[:300]!r}"
    return "; ".join(filter(None, [problem, *watch.found[:3]]))
