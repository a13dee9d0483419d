"""Start and end of several processes under torchrun: an error in one ends all of them, with one line on stderr."""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from utils.distributed import barrier, is_main, started_by_launcher
from utils.errors import UserError, one_line, printable
from utils.script import INTERRUPTED

TIMEOUT = timedelta(days=1)  # long, since others may be filling a cache; failures are noticed by Watch
POLL = 0.2  # seconds
PATIENCE = 10.0  # seconds for all processes to end by themselves; torchrun kills them after 30
LOST = ("by peer", "Broken pipe", "remote process exited")  # in messages of torch
SHOWN = 120  # characters of torch's message, which continues with advice
FAILURE, PRINTED, ENDED = "richiqa/failure", "richiqa/printed", "richiqa/ended"  # keys in the store


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, for the duration of the block; does nothing with one process.

    Only process 0 prints. An error in any process ends all of them with its status: process 0 prints it in one line,
    and the traceback of an unexpected error comes from the process that raised it.
    """
    if not started_by_launcher():
        yield
        return
    store, number, count = next(iter(dist.rendezvous("env://")))
    watch = Watch(store.clone(), number, count)
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=TIMEOUT)
        with _only_main_prints():
            yield
            barrier()
    except UserError as error:
        watch.end_all(f"error: {printable(str(error))}", error.status)
    except KeyboardInterrupt:
        watch.end_all("interrupted", INTERRUPTED)
    except SystemExit as error:  # from the command line, which all processes parse
        watch.end_all("", error.code if isinstance(error.code, int) else 1)
    except BaseException as error:
        if _connection_lost(error):
            reason = f"another process has died ({one_line(error, SHOWN)})"
            watch.end_all(f"error: {reason}; --resume continues a training from what is saved", 1)
        if not watch.has_failed():
            traceback.print_exc()
        what = f"{type(error).__name__}: {one_line(error)}"
        watch.end_all(f"error in process {number} (of 0 to {count - 1}): {what}", 1)
    watch.stop()
    dist.destroy_process_group()


def _connection_lost(error: BaseException) -> bool:
    """Return whether an error of Gloo, NCCL or the store says that another process, or its machine, has gone."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in LOST)


@contextmanager
def _only_main_prints() -> Iterator[None]:
    if is_main():
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


class Watch:
    """Watch in a thread whether another process has failed, since this one might wait for it forever.

    Args:
        store: Separate connection to the store shared by all processes.
        number: Index of this process.
        count: Number of processes.
    """

    def __init__(self, store: dist.Store, number: int, count: int):
        self.store = store
        self.number = number
        self.count = count
        self.ending = threading.Lock()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._poll, daemon=True)
        self.thread.start()

    def has_failed(self) -> bool:
        """Return whether any process has failed, also if that is the one that hosts the store."""
        try:
            return self.store.check([FAILURE])
        except RuntimeError:
            return True

    def end_all(self, line: str, status: int) -> None:
        """End every process with this status, or with that of an earlier failure; does not return."""
        with suppress(RuntimeError):  # the store and the process that hosts it have gone
            self.store.compare_set(FAILURE, "", json.dumps([line, status]))
        self._end()

    def stop(self) -> None:
        """Stop watching, when all processes have finished."""
        self.stopped.set()
        self.thread.join()

    def _poll(self) -> None:
        while not self.stopped.wait(POLL):
            if self.has_failed():
                self._end()

    def _end(self) -> None:
        with self.ending:  # the second of the two threads waits here
            status = 1
            with suppress(RuntimeError):
                line, status = json.loads(self.store.get(FAILURE))
                if self.number == 0:
                    if line:
                        print(f"\n{line}" if sys.stderr.isatty() else line, file=sys.stderr)  # below a progress bar
                    self.store.add(PRINTED, 1)
                    self._wait_for(ENDED, self.count - 1)  # this process may host the store
                else:
                    self._wait_for(PRINTED, 1)
                    self.store.add(ENDED, 1)
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(status)

    def _wait_for(self, key: str, number: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.store.add(key, 0) < number and time.monotonic() < deadline:
            time.sleep(POLL)
