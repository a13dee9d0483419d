"""Several processes under torchrun, from joining to their end: an error of one is the end of all, in one line."""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from utils.distributed import barrier, is_main, launched
from utils.errors import UserError, one_line, printable

TIMEOUT = timedelta(days=1)  # of a wait: others may fill a cache meanwhile; those that fail are noticed otherwise
POLL = 0.2  # seconds
PATIENCE = 10.0  # seconds for all to end by themselves: torchrun kills after 30
FAILURE, SAID, ENDED = "richiqa/failure", "richiqa/said", "richiqa/ended"  # keys of the store


@contextmanager
def joined() -> Iterator[None]:
    """Within it, the processes that torchrun has started are joined; where there is one, nothing happens.

    Process 0 alone writes to the terminal. An error in any of them ends all with its status, wherever the others wait:
    process 0 says it in one line; of what was not foreseen, the traceback comes from the process where it was.
    """
    if not launched():
        yield
        return
    store, number, count = next(iter(dist.rendezvous("env://")))
    watch = Watch(store.clone(), number, count)
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=TIMEOUT)
        with _only_main_speaks():
            yield
            barrier()
    except UserError as error:
        watch.end_all(f"error: {printable(str(error))}", error.status)
    except KeyboardInterrupt:
        watch.end_all("interrupted", 130)
    except SystemExit as error:  # of the command line, which all of them read
        watch.end_all("", error.code if isinstance(error.code, int) else 1)
    except BaseException as error:
        if not watch.has_failed():
            traceback.print_exc()
        what = f"{type(error).__name__}: {one_line(error)}"
        watch.end_all(f"error in process {number} (of 0 to {count - 1}): {what}", 1)
    watch.stop()
    dist.destroy_process_group()


@contextmanager
def _only_main_speaks() -> Iterator[None]:
    with ExitStack() as stack:
        if not is_main():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


class Watch:
    """Looks, in a thread, whether another process has failed: this one may be waiting for it, and would forever.

    Args:
        store: A connection of its own to what torchrun, or process 0, keeps for all.
        number: Of this process.
        count: Of processes.
    """

    def __init__(self, store: dist.Store, number: int, count: int):
        self.store = store
        self.number = number
        self.count = count
        self.ending = threading.Lock()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def has_failed(self) -> bool:
        """Whether any process has."""
        return self.store.check([FAILURE])

    def end_all(self, line: str, status: int) -> None:
        """Ends every process with this status, or with that of an earlier failure; does not return."""
        with suppress(RuntimeError):  # the store is gone, and with it who keeps it
            self.store.compare_set(FAILURE, "", json.dumps([line, status]))
        self._end()

    def stop(self) -> None:
        """To be called where all have come to their end."""
        self.stopped.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.stopped.wait(POLL):
            with suppress(RuntimeError):
                if not self.has_failed():
                    continue
            self._end()

    def _end(self) -> None:
        with self.ending:  # of the two threads, the second waits for the end
            status = 1
            with suppress(RuntimeError):
                line, status = json.loads(self.store.get(FAILURE))
                if self.number == 0:
                    if line:
                        print(f"\n{line}" if sys.stderr.isatty() else line, file=sys.stderr)  # below a progress bar
                    self.store.add(SAID, 1)
                    self._wait_for(ENDED, self.count - 1)  # the store may be of this process
                else:
                    self._wait_for(SAID, 1)
                    self.store.add(ENDED, 1)
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(status)

    def _wait_for(self, key: str, number: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.store.add(key, 0) < number and time.monotonic() < deadline:
            time.sleep(POLL)
