"""Several processes of one training, forked from the test process, so that nothing is imported again."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from utils.processes import process_group
from utils.script import run_script

SECONDS = 300  # that they may take, on a busy machine
COMPILING_SECONDS = 600  # where each compiles first


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    status: int
    out: str
    err: str


def run_processes(
    function: Callable[[], int],
    folder: Path,
    count: int = 2,
    seconds: float = SECONDS,
    attack: Callable[[Sequence[BaseProcess]], None] | None = None,
) -> list[Ended]:
    """What becomes of a script's `main` in each of `count` processes, which torchrun might have started.

    Args:
        function: Returns a status.
        folder: For what they write.
        count: Of processes.
        seconds: After which they are killed.
        attack: Called with the processes when they have been started.
    """
    context = multiprocessing.get_context("fork")
    with socket.socket() as held:  # so that no other process of the tests is given the port before it is listened at
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        processes = [context.Process(target=_run, args=(function, folder, rank, count, port)) for rank in range(count)]
        try:
            for process in processes:
                process.start()
            if attack is not None:
                attack(processes)
            for process in processes:
                process.join(seconds)
        finally:
            for process in processes:
                process.kill()
                process.join()
    read = [[(folder / f"{name}_{rank}").read_text() for name in ("out", "err")] for rank in range(count)]
    return [Ended(process.exitcode, *texts) for process, texts in zip(processes, read, strict=True)]


def results(function: Callable[[], Any], folder: Path, count: int = 2, seconds: float = SECONDS) -> list[Any]:
    """What a function returns in each of several processes that are joined."""

    def keep() -> int:
        with process_group():
            torch.save(function(), folder / f"result_{os.environ['RANK']}")
        return 0

    for ended in run_processes(keep, folder, count, seconds):
        assert ended.status == 0, ended.err
    return [torch.load(folder / f"result_{rank}") for rank in range(count)]


def _run(function: Callable[[], int], folder: Path, rank: int, count: int, port: int) -> None:
    for number, (name, descriptor) in enumerate((("out", 1), ("err", 2))):
        os.dup2(os.open(folder / f"{name}_{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115, as long as the process
        setattr(sys, ("stdout", "stderr")[number], stream)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"})
    torch.set_num_threads(1)
    run_script(function, os._exit)
