"""Damage to checkpoints: flipped bits, blocks of zeros, cuts."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from tests.conftest import make_koniq_table, quick_overrides, write_koniq
from tests.identical import assert_identical
from tests.running import folder_of, train
from tests.torture.part import Outcome, Part
from tools import export
from utils.checkpoint import read_tensors
from utils.errors import UserError

OLD = "old.pt"  # without a checksum; damage to what is not read may pass
FILES = ("last.pt", "best.pt", "best.safetensors", OLD)
INPUTS = 50
BLOCK = 512  # bytes
ENDS = 6000  # bytes that hold the directory of an archive, or the header of a .safetensors file


def prepare(folder: Path) -> None:
    """Write the checkpoints of a small run, an exported network, and a checkpoint as they were before checksums."""
    write_koniq(folder, make_koniq_table())
    assert train(quick_overrides(folder / "koniq10k", folder), "train.epochs=1") == 0
    for name in ("last.pt", "best.pt"):
        (folder_of(folder) / name).rename(folder / name)
    assert export.main([str(folder / "best.pt"), "--output", str(folder / "best.safetensors"), "--half"]) == 0
    torch.save(torch.load(folder / "best.pt", weights_only=True), folder / OLD)


def attempt(number: int, folder: Path, prepared: Path, kind: str) -> Outcome:
    """Damage a file in INPUTS ways, half of them near its ends."""
    path = prepared / FILES[number % len(FILES)]
    whole, expected = path.read_bytes(), read_tensors(path)
    rng, copy = np.random.default_rng(number), folder / path.name
    for index in range(INPUTS):
        size = len(whole)
        position = int(rng.integers(-ENDS // 2, ENDS // 2) % size if index % 2 else rng.integers(size))
        content = damaged(whole, position, kind, rng)
        if content == whole:
            continue
        copy.write_bytes(content)
        what = f"{path.name}, {kind} at byte {position} of {size}"
        try:
            found = read_tensors(copy)
        except UserError as error:
            if "\n" in str(error) or str(copy) not in str(error):
                return Outcome(f"{what}: {error}")
            continue
        if path.name != OLD or kind == "cut":
            return Outcome(f"{what}: not noticed")
        assert_identical(expected, found, what)
    return Outcome()


def damaged(whole: bytes, position: int, kind: str, rng: np.random.Generator) -> bytes:
    """Return a file with one bit flipped, a block of zeros, or cut at a position."""
    if kind == "cut":
        return whole[:position]
    if kind == "zeros":
        start = position // BLOCK * BLOCK
        return whole[:start] + bytes(len(whole[start : start + BLOCK])) + whole[start + BLOCK :]
    return whole[:position] + bytes([whole[position] ^ 1 << int(rng.integers(8))]) + whole[position + 1 :]


HOLDS = "one line that names the file; of files from before checksums, no wrong value"
PARTS = tuple(
    Part(f"checkpoint_{kind}", f"{title} in checkpoints", HOLDS, 80, partial(attempt, kind=kind), prepare, INPUTS)
    for kind, title in (("flip", "a flipped bit"), ("zeros", "a block of zeros"), ("cut", "a cut"))
)
