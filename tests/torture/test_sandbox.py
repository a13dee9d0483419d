"""The limits of hostile inputs: what breaks them is noticed, and the inputs after it are tried all the same."""

import os
import signal
import subprocess
import sys

import pytest

from tests.torture.sandbox import try_inputs
from utils.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are those of Linux")


def raise_user_error():
    raise UserError("no")


def overflow():
    return overflow()


INPUTS = {
    "fine": (lambda: None, ""),
    "refused": (raise_user_error, ""),
    "bug": (lambda: {}["a"], "KeyError: \"'a'\""),
    "recursion": (overflow, "RecursionError"),
    "crash": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "killed by SIGSEGV"),
    "hang": (signal.pause, "killed by SIGALRM"),
    "memory": (lambda: bytearray(2**33), "MemoryError"),
    "exit": (lambda: os._exit(3), "ended the process"),
    "program": (lambda: subprocess.run(["true"], check=False), "subprocess.Popen"),
    "shell": (lambda: os.system("true"), "os.system"),
    "code": (lambda: eval("1"), "compile"),
    "elsewhere": (lambda: open("/etc/hostname").close(), "open('/etc/hostname', read)"),
    "written": (lambda: open("/tmp/never", "w").close(), "open('/tmp/never', write)"),
    "last": (lambda: None, ""),
}


def test_what_breaks_the_limits_is_noticed(tmp_path):
    reads = [read for read, _ in INPUTS.values()]
    found = try_inputs(len(reads), reads.__getitem__, tmp_path, seconds=1)
    for number, (name, (_, expected)) in enumerate(INPUTS.items()):
        assert expected in found.get(number, ""), name
        assert bool(expected) == (number in found), name
