"""Device, random states, package versions and interruption of the process."""

import platform
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata

import numpy as np
import torch

from utils.distributed import is_distributed, local_rank, world
from utils.errors import UserError
from utils.script import SIGNALS

# packages that results may depend on, with the names of their modules
PACKAGES = {
    **{name: name for name in ("torch", "torchvision", "timm", "numpy", "scipy", "pandas")},
    "pillow": "PIL",  # also for Pillow-SIMD, whose metadata have another name
}
UNKNOWN = "unknown"  # version of a package that does not declare one


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device for a name such as `cuda:1`, or for `auto`: CUDA, else MPS, else CPU.

    With several processes, each gets its own GPU.

    Raises:
        UserError: The device is not available.
    """
    name = _local_device(str(name))
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *(["mps"] if mps else [])]
    if name not in available and not (name == "cuda" and cuda):
        raise UserError(f"device {name!r} is not available; allowed: auto, {', '.join(available)}")
    return torch.device(name)


def _local_device(name: str) -> str:
    """Return the device name for this process; with several processes, also make its GPU torch's current device."""
    if not is_distributed() or name == "cpu":
        return name
    if name not in ("auto", "cuda"):
        raise UserError(f"train.device: {name} cannot be shared by {world()} processes; allowed: auto, cuda, cpu")
    if not torch.cuda.is_available():
        return "cpu" if name == "auto" else name
    count = torch.cuda.device_count()
    if local_rank() >= count:
        raise UserError(
            f"train.device: {name} needs one GPU per process, and this machine has {count}; start torchrun with "
            f"--nproc-per-node {count}, or set train.device=cpu"
        )
    torch.cuda.set_device(local_rank())
    return f"cuda:{local_rank()}"


def derive_seed(*parts: int) -> int:
    """Combine several numbers, such as a seed and a split, into one seed of 63 bits."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_states(device: torch.device) -> dict:
    """Return the states of these generators as tensors, lists and numbers; on CUDA, for this device."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [kind, keys.tolist(), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def restore_random_states(states: dict, device: torch.device) -> None:
    """Restore the generators from `random_states`; the state of another kind of device is ignored."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))


def environment(device: torch.device) -> dict[str, str]:
    """Return the versions that results may depend on, and the name of the GPU or CPU."""
    versions = {"python": platform.python_version()}
    versions |= {name: package_version(name, module) for name, module in PACKAGES.items()}
    on_gpu = device.type == "cuda"
    versions["machine"] = torch.cuda.get_device_name(device) if on_gpu else platform.processor() or device.type
    return versions


def package_version(name: str, module: str) -> str:
    """Return the version of a package from its imported module, else from its metadata, else UNKNOWN."""
    version = getattr(sys.modules.get(module), "__version__", None)
    if version is None:
        with suppress(metadata.PackageNotFoundError, KeyError):  # KeyError: metadata without a version
            version = metadata.version(name)
    return UNKNOWN if version is None else str(version)


class Interruption:
    """Handle Ctrl-C and SIGTERM: the first only sets `requested`, the second stops the process as usual.

    With several processes, none stops by itself: torchrun forwards the signal to all, and kills them after half a
    minute. In a thread other than the main one, signals are left to the program, since Python handles them there.
    """

    def __init__(self):
        self.requested = False
        self._immediate = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal end the block, if nothing would be lost; not with several processes."""
        self._immediate = not is_distributed()
        try:
            yield
        except KeyboardInterrupt:
            self.requested = True
        finally:
            self._immediate = False

    def __enter__(self):
        self._previous = {}
        if threading.current_thread() is not threading.main_thread():
            return self
        self._previous = {number: signal.signal(number, self._request) for number in SIGNALS}
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked by experiments.training.parallel
        return self

    def __exit__(self, *error):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number, _frame):
        self.requested = True
        if self._immediate:
            raise KeyboardInterrupt
        if not is_distributed():
            signal.signal(number, self._previous[number])
