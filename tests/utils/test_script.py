"""Scripts under odd conditions of Python and of the shell."""

import os
import subprocess
import sys

import pytest

from experiments.suite import is_override
from tests.running import ROOT
from utils.script import first_line

HELLO = """
import sys
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
@pytest.mark.parametrize("script", ["main.py", "inference.py", "tools/list_settings.py"])
def test_python_may_be_isolated_or_without_docstrings(script, flags):
    assert "usage" in shell(f"$PYTHON {flags} {script} --help").stdout


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


def test_first_line():
    assert first_line("One.\n\nTwo.") == "One."
    assert first_line(None) is None
