"""Scripts under odd conditions of Python and of the shell."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.suite import is_override
from tests.running import ROOT
from utils.script import first_line

HELLO = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from utils.script import run_script
def main():
    print("hello")
    print("a remark", file=sys.stderr)
    return 0
run_script(main, unread=1)
"""


def shell(command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def hello(tmp_path, redirection: str) -> subprocess.CompletedProcess:
    (tmp_path / "hello.py").write_text(HELLO.format(root=str(ROOT)))
    return shell(f"$PYTHON {tmp_path / 'hello.py'} {redirection}")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(tmp_path):
    done = hello(tmp_path, "> /dev/full")
    assert done.returncode == 1
    line = "error: the standard output cannot be written: No space left on device; free some space or files there and "
    assert done.stderr.splitlines()[-1] == line + "try again"
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_success_where_work_is_lost(tmp_path):
    done = hello(tmp_path, "| (exec <&-; sleep 1)")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: stopped, since the reader of the standard output has gone"


@pytest.mark.parametrize(("redirection", "output"), [(">&-", ""), ("2>&-", "hello\n"), (">&- 2>&-", "")])
def test_remarks_stay_out_of_the_output_where_streams_are_closed(redirection, output, tmp_path):
    done = hello(tmp_path, redirection)
    assert (done.returncode, done.stdout) == (0, output)


@pytest.mark.parametrize("flags", ["-I", pytest.param("-OO", marks=pytest.mark.slow)])  # -OO compiles all of torch
@pytest.mark.parametrize(
    "script", [pytest.param("main.py", marks=pytest.mark.slow), "inference.py", "tools/list_settings.py"]
)
def test_python_may_be_isolated_or_without_docstrings(script, flags):
    assert "usage" in shell(f"$PYTHON {flags} {script} --help").stdout


@pytest.mark.slow
def test_tables_made_of_docstrings_are_not_emptied(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- settings -->\nkept\n<!-- end -->\n")
    done = shell(f"$PYTHON -OO tools/list_settings.py --write {page}")
    assert done.returncode == 2
    assert "python -OO" in done.stderr
    assert "kept" in page.read_text()


@pytest.mark.slow
def test_names_too_long_for_the_system_are_one_line():
    done = shell(f"$PYTHON main.py --config {300 * 'n'}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert is_override(f"scale.bin_centers=[{300 * '1,'}]")


SIGNALLED = """
import atexit, os, sys, time
sys.path.insert(0, {root!r})
from utils.script import start_imports, slow_imports, run_script
def told(status=0):
    print("ready", flush=True)
    time.sleep(60)
def turned():
    try:
        told()
    except KeyboardInterrupt:
        raise ImportError("numpy failed to import")
def imported():
    with slow_imports():
        turned()
def cleaning():
    atexit.register(told)
    return 3
class Last:
    def __del__(self):
        told()
def ignored():
    Last()  # Python prints and ignores what is raised in its __del__
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_clean_up_does_not_change_the_status(number):
    """When modules are taken apart, Python has given Ctrl-C back to the system."""
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from utils.script import run_script
class Last:
    def __del__(self, kill=os.kill, process=os.getpid()):
        kill(process, {int(number)})
last = Last()
run_script(lambda: 3)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("script", "status", "line"),
    [
        ("start_imports(); turned()", 130, "interrupted\n"),  # while a script imports
        ("run_script(told)", 130, "interrupted\n"),
        ("run_script(turned)", 130, "interrupted\n"),  # as libraries do
        ("run_script(imported)", 130, "interrupted\n"),
        ("run_script(ignored)", 130, "interrupted\n"),
        ("run_script(cleaning)", 3, ""),
    ],
)
def test_a_signal_is_one_line_wherever_it_comes(script, status, line, number):
    command = [sys.executable, "-c", SIGNALLED.format(root=str(ROOT)) + script]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", line)
        assert process.returncode == status


@pytest.mark.parametrize(
    "path", ["main.py", "benchmarks/run.py", *sorted(ROOT.glob("tools/[a-z]*.py"))], ids=lambda path: Path(path).name
)
def test_scripts_end_on_signals_while_they_import(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.index("    start_imports()\n") < text.index("from utils", text.index("start_imports()\n"))


START = """
import gc, sys
sys.path.insert(0, {root!r})
from utils.script import run_script, slow_imports, start_imports
def imports_early():
    print(gc.isenabled(), gc.get_freeze_count() > 1000)
    return 0
def imports_late():
    with slow_imports():
        print(gc.isenabled())
    return imports_early()
"""


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("start_imports(); print(gc.isenabled()); run_script(imports_early)", "False\nTrue True\n"),
        ("run_script(imports_late)", "False\nTrue True\n"),
        ("run_script(imports_early)", "True False\n"),  # nothing is kept that may be garbage
    ],
)
def test_garbage_is_searched_for_again_after_the_imports(script, printed):
    command = [sys.executable, "-c", START.format(root=str(ROOT)) + script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == printed


def test_signals_that_are_ignored_stay_ignored():
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + SIGNALLED.format(root=str(ROOT))
    script += "run_script(lambda: os.kill(os.getpid(), signal.SIGINT) or 4)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 4


def test_first_line():
    assert first_line("One.\n\nTwo.") == "One."
    assert first_line(None) is None
