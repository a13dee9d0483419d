"""The machine and the process: device, random states, interruption, versions."""

import platform
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata

import numpy as np
import torch

from utils.distributed import is_distributed, local_rank, world
from utils.errors import UserError

# what a result may depend on, by the module that it is imported as
PACKAGES = {
    **{name: name for name in ("torch", "torchvision", "timm", "numpy", "scipy", "pandas")},
    "pillow": "PIL",  # also of Pillow-SIMD, whose metadata go by its own name
}
UNKNOWN = "unknown"  # the version of a package that does not state it


def pick_device(name: str | torch.device) -> torch.device:
    """`auto` (CUDA, else MPS, else CPU), or a device by name such as `cuda:1`. Each of several processes has its GPU.

    Raises:
        UserError: The device is not there.
    """
    name = _of_this_process(str(name))
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *(["mps"] if mps else [])]
    if name not in there and not (name == "cuda" and cuda):
        raise UserError(f"device {name!r} is not on this machine; allowed: auto, {', '.join(there)}")
    return torch.device(name)


def _of_this_process(name: str) -> str:
    """The device by name, and of several processes the GPU that is this one's, now torch's current one."""
    if not is_distributed() or name == "cpu":
        return name
    if name not in ("auto", "cuda"):
        raise UserError(f"train.device: {name} is one for all {world()} processes; allowed: auto, cuda, cpu")
    if not torch.cuda.is_available():
        return "cpu" if name == "auto" else name
    count = torch.cuda.device_count()
    if local_rank() >= count:
        raise UserError(
            f"train.device: {name} is a GPU for each process, and this machine has {count}; start torchrun with "
            f"--nproc-per-node {count}, or set train.device=cpu"
        )
    torch.cuda.set_device(local_rank())
    return f"cuda:{local_rank()}"


def derive_seed(*parts: int) -> int:
    """One seed of 63 bits from several numbers, such as a seed and a split."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's generators, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_states(device: torch.device) -> dict:
    """The states of all those generators, as tensors, lists and numbers; on CUDA, of this device."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [kind, keys.tolist(), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def restore_random_states(states: dict, device: torch.device) -> None:
    """Undoes what happened to the generators since `random_states`; a state from another kind of device is left."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))


def environment(device: torch.device) -> dict[str, str]:
    """Versions that a result may depend on, and the machine: of a GPU, the one that was computed on."""
    versions = {"python": platform.python_version()}
    versions |= {name: package_version(name, module) for name, module in PACKAGES.items()}
    of_gpu = device.type == "cuda"
    versions["machine"] = torch.cuda.get_device_name(device) if of_gpu else platform.processor() or device.type
    return versions


def package_version(name: str, module: str) -> str:
    """The version of a package: what the module says of itself where it is imported, else what its metadata say.

    Args:
        name: Of the package.
        module: What it is imported as.

    Returns:
        UNKNOWN where neither states one, which is no reason to lose a run.
    """
    stated = getattr(sys.modules.get(module), "__version__", None)
    if stated is None:
        with suppress(metadata.PackageNotFoundError, KeyError):  # KeyError: metadata without a version
            stated = metadata.version(name)
    return UNKNOWN if stated is None else str(stated)


class Interruption:
    """Within it, the first Ctrl-C (or SIGTERM) only sets `requested`; the second stops the process as usual.

    Of several processes none stops by itself: torchrun passes on what they all have got from a cluster, and kills after
    half a minute.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.requested = False
        self._losing_nothing = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Where there is nothing to lose, the first one ends what is done within; of several processes, it does not."""
        self._losing_nothing = not is_distributed()
        try:
            yield
        except KeyboardInterrupt:
            self.requested = True
        finally:
            self._losing_nothing = False

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._request) for number in self.SIGNALS}
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)  # may wait, see experiments.training.parallel
        return self

    def __exit__(self, *error):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number, _frame):
        self.requested = True
        if self._losing_nothing:
            raise KeyboardInterrupt
        if not is_distributed():
            signal.signal(number, self._previous[number])
