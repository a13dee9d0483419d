"""Files that are whole or not at all, and checkpoints that need no trust."""

import codecs
import errno
import gzip
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from utils.checkpoint import read_checkpoint, read_tensors, save_checkpoint, to_safetensors
from utils.errors import UserError
from utils.files import to_json, write_atomically

PLAIN = {"config": {"model": {"stages": [1, 2]}}, "scale": {"low": 1}}


def test_content_comes_back(tmp_path):
    content = {**PLAIN, "model": {"w": torch.arange(3)}, "loss_sums": {"total": 0.5}}
    save_checkpoint(tmp_path / "new" / "a.pt", content)
    read = read_checkpoint(tmp_path / "new" / "a.pt")
    assert torch.equal(read["model"]["w"], torch.arange(3))
    assert read["loss_sums"] == content["loss_sums"]
    assert read["config"] == content["config"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {**PLAIN, "epoch": 1})

    def broken(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(UserError, match=r"a\.pt cannot be written: disk full"):
        write_atomically(path, broken)
    assert read_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    (tmp_path / "trap.pt").write_bytes(pickle.dumps({"format": Trap()}))
    torch.save({"format": Trap()}, tmp_path / "trap2.pt")
    (tmp_path / "trap3.pt").write_bytes(pickle.dumps({"format": Trap()}, protocol=0))
    for name in ("trap.pt", "trap2.pt", "trap3.pt"):
        with pytest.raises(UserError, match="it contains an object of the class print"):
            read_checkpoint(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(("kept", "message"), [(1000, "damaged, half-written or another"), (0, "an empty file")])
def test_cut_files_are_named(kept, message, tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {**PLAIN, "model": {"w": torch.zeros(1000)}})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"a\.pt is not a checkpoint: {message}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_text_is_no_checkpoint(suffix, tmp_path):
    (tmp_path / f"a.{suffix}").write_text("text, as people save it by mistake")
    with pytest.raises(UserError, match="is not a checkpoint"):
        read_checkpoint(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        (b"\n<!DOCTYPE html><title>Not found</title>", "a web page"),
        (gzip.compress(b"weights", mtime=0), "compressed by gzip"),
        (pickle.dumps({"layer": np.ones(3)}), "an object of the class numpy"),
    ],
)
def test_other_kinds_of_files_are_named(content, message, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.pth is not a checkpoint: .*{message}"):
        read_tensors(tmp_path / "a.pth")


def test_content_decides_and_not_the_name(tmp_path):
    save_file({"w": torch.ones(1)}, tmp_path / "a.pth")
    torch.save({"w": torch.ones(1)}, tmp_path / "b.safetensors")
    assert read_tensors(tmp_path / "a.pth")["w"] == read_tensors(tmp_path / "b.safetensors")["w"] == 1


def test_files_in_a_folder_are_named(tmp_path):
    with pytest.raises(UserError, match=r"is a folder; it contains no checkpoint either"):
        read_tensors(tmp_path)
    save_checkpoint(tmp_path / "split_01" / "best.pt", PLAIN)
    with pytest.raises(UserError, match=r"is a folder; name a file in it: split_01/best\.pt"):
        read_tensors(tmp_path)


def test_foreign_and_later_checkpoints(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match="not written by this project"):
        read_checkpoint(tmp_path / "foreign.pt")
    torch.save({"format": "richiqa", "version": 99}, tmp_path / "later.pt")
    with pytest.raises(UserError, match=r"later\.pt has version 99, and this code reads version 1; write the file"):
        read_checkpoint(tmp_path / "later.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": {"low": "x"}}, r"scale\.low: Input should be a valid number"),
        ({"config": {"optim": {"ler": 1}}}, r"unknown key 'config\.optim\.ler' \(did you mean 'lr'\?\)"),
    ],
)
def test_a_key_that_does_not_fit_is_named(change, message, tmp_path):
    content = {"format": "richiqa", "version": 1, **PLAIN, **change}
    torch.save(content, tmp_path / "a.pt")
    for use in (lambda: read_checkpoint(tmp_path / "a.pt"), lambda: save_checkpoint(tmp_path / "a.pt", content)):
        with pytest.raises(UserError, match=rf"a\.pt: .*{message}"):
            use()


def test_json_has_no_nan():
    assert to_json({"a": [float("nan"), 1.5], "b": float("inf")}) == '{"a": [null, 1.5], "b": null}'


def test_safetensors_carry_the_config_and_foreign_ones_are_plain_tensors(tmp_path):
    model, config = {"w": torch.arange(6.0).reshape(2, 3).T}, {"scale": {"low": 1}, "optim": {"lr": 1e-5}}
    (tmp_path / "own.safetensors").write_bytes(to_safetensors(model, config))
    content = read_checkpoint(tmp_path / "own.safetensors")
    assert torch.equal(content.pop("model")["w"], model["w"])
    assert content == {"format": "richiqa", "version": 1, "config": config, "scale": {"low": 1}}
    save_file({"w": torch.zeros(1)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    assert read_tensors(tmp_path / "foreign.safetensors").keys() == {"w"}


@pytest.mark.parametrize("metadata", [{}, {"version": "1", "config": "{", "scale": "{}"}])
def test_damaged_metadata_are_named(metadata, tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors", {"format": "richiqa", **metadata})
    with pytest.raises(UserError, match=r"a\.safetensors is not a checkpoint"):
        read_tensors(tmp_path / "a.safetensors")


def test_the_same_weights_give_the_same_safetensors(tmp_path):
    """The library itself writes the metadata in an order that differs from call to call."""
    model = {f"w{number}": torch.rand(3, 5 + number) for number in range(8)}
    config, more = {"scale": {"low": 1}, "name": "é"}, {"chosen_epoch": True, "split": {"version": 1}}
    written = {to_safetensors(model, config, **more) for _ in range(8)}
    (content,) = written
    (tmp_path / "a.safetensors").write_bytes(content)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert json.loads(file.metadata()["config"]) == config
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in model.items())


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call(bytearray, 2**50), "bytearray"),
        (Call(codecs.encode, Call(codecs.encode, "a", "latin1"), "hex"), "_codecs.encode"),  # doubles at each call
        (Call(torch.FloatTensor, 2**50), "torch.FloatTensor"),
        (Call(os.system, "true"), "posix.system"),
    ],
)
def test_what_could_fill_the_memory_is_not_called(call, name, older, tmp_path):
    torch.save({"format": call}, tmp_path / "a.pt", _use_new_zipfile_serialization=not older)
    with pytest.raises(UserError, match=rf"it contains an object of the class {name}\. Only tensors and plain data"):
        read_tensors(tmp_path / "a.pt")


def test_storages_of_other_names_than_those_that_are_used(tmp_path):
    """Torch has an assertion against it."""
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pt").read_bytes()
    key = content.rpartition(b"X")[2][4:8]  # of the list of storages, at the end
    start, _, end = content.rpartition(key)
    (tmp_path / "a.pt").write_bytes(start + b"9999" + end)
    with pytest.raises(UserError, match=r"a\.pt is not a checkpoint: damaged.*storage key '9999"):
        read_tensors(tmp_path / "a.pt")


def test_a_text_that_states_terabytes(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"\x80\x04\x8d" + struct.pack("<Q", 2**42) + b"abc.")
    with pytest.raises(UserError, match=r"a\.pt is not a checkpoint: damaged"):
        read_tensors(tmp_path / "a.pt")


class ReaderOfOldTorch(torch._C.PyTorchFileReader):
    @property
    def get_record_size(self):
        raise AttributeError  # torch 2.11 has no such method


@pytest.mark.parametrize("reader", [torch._C.PyTorchFileReader, ReaderOfOldTorch])
def test_files_that_unpack_to_more_than_they_are(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(torch._C, "PyTorchFileReader", reader)
    torch.save({"w": torch.zeros(1000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, record in records.items():
            archive.writestr(name, b"\0" * 2**24 if name.endswith("data/0") else record)
    assert (tmp_path / "bomb.pt").stat().st_size < 2**16
    assert read_tensors(tmp_path / "a.pt")["w"].shape == (1000,)
    with pytest.raises(UserError, match=r"bomb\.pt is not a checkpoint: .*its records are compressed, of \d+ bytes"):
        read_tensors(tmp_path / "bomb.pt")


def test_lists_of_lists_that_stand_for_more_than_memory_holds(tmp_path):
    lists = [1]
    for _ in range(40):
        lists = [lists, lists]
    itself = {}
    itself["model"] = itself
    for content in ({**PLAIN, "config": {"seed": lists}}, itself):
        torch.save({"format": "richiqa", "version": 1, **content}, tmp_path / "a.pt")
        with pytest.raises(UserError, match="more than 20000000 values, or lists that contain themselves"):
            read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("version", [True, "1", 1.0, torch.ones(2), [1] * 10**5])
def test_versions_that_are_no_number(version, tmp_path):
    torch.save({"format": "richiqa", "version": version, **PLAIN}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt has version .*, and this code reads version 1") as caught:
        read_checkpoint(tmp_path / "a.pt")
    assert len(str(caught.value)) < 500


HEADERS = {
    "sizes of terabytes": {"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
    "overlapping tensors": {
        "v": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    },
    "a shape that does not fit": {"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
    "offsets before the start": {"w": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
    "an overflow": {"w": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 8]}},
    "bytes of no tensor": {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
    "no type": {"w": {"dtype": "Z9", "shape": [2], "data_offsets": [0, 8]}},
    "no tensor": {"w": [1, 2]},
}


@pytest.mark.parametrize("kind", HEADERS)
def test_safetensors_with_false_headers(kind, tmp_path):
    header = json.dumps(HEADERS[kind]).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    with pytest.raises(UserError, match=r"a\.safetensors is not a checkpoint: damaged"):
        read_tensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("length", [2**63, 2**40, 2, 9])
def test_safetensors_with_a_false_length_of_the_header(length, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", length) + b'{"a":1}')
    with pytest.raises(UserError, match=r"a\.safetensors is not a checkpoint: damaged"):
        read_tensors(tmp_path / "a.safetensors")


def test_a_file_that_the_disk_cannot_read(tmp_path, monkeypatch):
    """It gave a traceback, unless the permission was missing."""
    save_checkpoint(tmp_path / "a.pt", PLAIN)

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("utils.checkpoint.open", broken, raising=False)
    with pytest.raises(UserError, match=r"a\.pt cannot be read: Input/output error"):
        read_tensors(tmp_path / "a.pt")
