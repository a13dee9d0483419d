"""Checksums in checkpoints: every kind of damage is noticed, and other programs read the files as before."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from utils.checkpoint import read_tensors, save_checkpoint, to_safetensors
from utils.errors import UserError

NAMES = ("a.pt", "a.safetensors")
POSITIONS = 40  # of flipped bits; tests/torture tries more


def write(folder: Path, name: str) -> Path:
    """A checkpoint of three tensors."""
    model = {f"w{number}": torch.rand(5, 7, generator=torch.Generator().manual_seed(number)) for number in range(3)}
    path = folder / name
    if path.suffix == ".pt":
        save_checkpoint(path, {"config": {"seed": 3}, "scale": {}, "model": model})
    else:
        path.write_bytes(to_safetensors(model, {"scale": {"low": 1}}, chosen_epoch=True))
    return path


def assert_noticed(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged|is not a checkpoint") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_noticed(name, tmp_path):
    path = write(tmp_path, name)
    content = path.read_bytes()
    ends = [*range(120), *range(len(content) - 60, len(content))]  # with the digits and what is around them
    rng = np.random.default_rng(0)
    for position in [*ends, *rng.integers(len(content), size=POSITIONS)]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        assert_noticed(path, bytes(damaged))
    path.write_bytes(content)
    read_tensors(path)


def test_a_flip_that_makes_another_kind_of_file_is_one_line(tmp_path):
    """torch then reads it as a pickle, from which any kind of error can come."""
    path = write(tmp_path, "a.safetensors")
    content = path.read_bytes()
    for bit in range(8):
        assert_noticed(path, content[:8] + bytes([content[8] ^ 1 << bit]) + content[9:])


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_is_noticed(name, tmp_path):
    path = write(tmp_path, name)
    content = path.read_bytes()
    for kept in [*range(0, len(content), 97), *range(len(content) - 50, len(content))]:
        assert_noticed(path, content[:kept])


def test_the_message_says_what_to_do(tmp_path):
    path = write(tmp_path, "a.pt")
    content = bytearray(path.read_bytes())
    content[1000] ^= 4
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"a\.pt is damaged: its checksum is \w{8}, and was \w{8} when it was written; co"
    ):
        read_tensors(path)


def test_other_programs_read_the_files(tmp_path):
    path = write(tmp_path, "a.pt")
    for options in ({}, {"mmap": True}):
        assert torch.load(path, weights_only=True, **options)["config"] == {"seed": 3}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        digits = archive.comment[-8:]
    content = path.read_bytes()
    assert content.endswith(digits)
    assert int(digits, 16) == zlib.crc32(content[:-8] + b"0" * 8)
    exported = write(tmp_path, "a.safetensors")
    assert torch.equal(load_file(exported)["w1"], torch.load(path, weights_only=True)["model"]["w1"])
    before, digits, after = (part := exported.read_bytes().partition(b'"crc32 '))[0] + part[1], part[2][:8], part[2][8:]
    assert int(digits, 16) == zlib.crc32(before + b"0" * 8 + after)


def test_a_checkpoint_saved_again_by_another_program_has_no_checksum_and_is_read(tmp_path):
    content = torch.load(write(tmp_path, "a.pt"), weights_only=True)
    torch.save(content, tmp_path / "again.pt")
    assert read_tensors(tmp_path / "again.pt")["config"] == {"seed": 3}


@pytest.mark.parametrize("own", [True, False])
def test_without_a_checksum_a_changed_value_is_noticed(own, tmp_path):
    """As of older checkpoints and files of other programs: torch reads wrong weights from them."""
    weights = torch.full((1000,), 0.5)
    torch.save({"format": "richiqa" if own else "other", "w": weights}, tmp_path / "a.pt")
    read_tensors(tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(weights.numpy().tobytes()) + 1000] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    assert not torch.equal(torch.load(tmp_path / "a.pt", weights_only=True)["w"], weights)
    with pytest.raises(UserError, match=r"a\.pt is damaged: \w+/data/0 has changed since it was written; copy or"):
        read_tensors(tmp_path / "a.pt")


def test_a_record_that_became_a_folder_is_noticed(tmp_path):
    """Torch then returns what was in memory before; the CRC of the content has not changed."""
    torch.save({"w": torch.ones(256)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    name = content.rindex(b"a/data/0")  # in the directory, where a header of 46 bytes comes before the name
    content[name - 8] |= 0x10  # its attributes
    (tmp_path / "a.pt").write_bytes(content)
    assert torch.load(tmp_path / "a.pt", weights_only=True)["w"].shape == (256,)
    with pytest.raises(UserError, match=r"a\.pt is not a checkpoint: .*folders"):
        read_tensors(tmp_path / "a.pt")


def test_records_without_a_crc_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(3)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_tensors(tmp_path / "a.pt")["w"].sum() == 3


def test_files_from_before_zip_archives_are_read(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert read_tensors(tmp_path / "a.pt")["w"].sum() == 3
