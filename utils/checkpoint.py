"""Checkpoints: plain dicts of tensors, lists, strings and numbers, which weights-only loading can read."""

import io
import json
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from utils.checksum import (
    ADVICE,
    KEY,
    VALUE,
    add_to_archive,
    check_archive,
    check_end,
    check_safetensors,
    fill_in,
)
from utils.errors import MissingFileError, UserError, one_line, some_of
from utils.files import to_json, write_atomically
from utils.schema import VERSION, CheckpointContent, checked

FORMAT = "richiqa"
SUFFIXES = (".pt", ".pth", ".safetensors", ".bin")
OPTIONAL = ("split", "chosen_epoch")  # in safetensors, as in `models.weights.TrainedNetwork`
METADATA = {"format", "version", "config", "scale", KEY, *OPTIONAL}  # of our safetensors
LENGTH = struct.Struct("<Q")  # of a safetensors header, in its first bytes
START = 64  # bytes that tell the kind of a file
OTHER_FILES = (  # first bytes in lower case, and what the file is
    (b"version https://git-lfs", "a pointer of Git LFS, without the file; run `git lfs pull` where it comes from"),
    (b"<", "a web page, perhaps an error of the download"),
    (b"{", "a text in JSON"),
    (b"\x1f\x8b", "compressed by gzip; unpack it"),
    (b"7z\xbc\xaf", "an archive; unpack it"),
    (b"\x93numpy", "an array of NumPy"),
    (b"\x89hdf", "an HDF5 file, as Keras writes"),
    (b"\x08", "perhaps an ONNX file, which cannot be read back"),
)
# raised by torch and safetensors for other kinds of files, and for objects that weights-only loading refuses
UNREADABLE = (
    *(RuntimeError, EOFError, OSError, ValueError, TypeError, AttributeError, LookupError, SafetensorError),
    *(struct.error, ArithmeticError, AssertionError),
)


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Write a checkpoint with a checksum, completely or not at all."""
    content = {"format": FORMAT, "version": VERSION, **content}
    checked(CheckpointContent, content, path)
    buffer = io.BytesIO()  # torch.save raises its own errors when the disk is full
    torch.save(content, buffer)
    add_to_archive(buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def to_safetensors(model: dict[str, torch.Tensor], config: dict[str, Any], **more: Any) -> bytes:
    """Return the content of a .safetensors file with weights and config, which `read_tensors` reads back.

    Its metadata, visible in any safetensors reader, come from `own_metadata`. The same arguments give the same bytes.

    Args:
        model: Weights; those in float16 are read back as float32.
        config: Config of the training.
        more: Entries of OPTIONAL.
    """
    metadata = own_metadata(config) | {name: to_json(value) for name, value in more.items()} | {KEY: VALUE}
    content = save({name: tensor.contiguous() for name, tensor in model.items()}, metadata)
    end = LENGTH.size + LENGTH.unpack_from(content)[0]  # of the header, which is JSON
    header = json.dumps(json.loads(content[LENGTH.size : end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % LENGTH.size)  # so that the tensors stay aligned
    return fill_in(LENGTH.pack(len(header)) + header + content[end:])


def own_metadata(config: dict[str, Any]) -> dict[str, str]:
    """Return the metadata of an exported network: format, version, and config and rating scale as JSON."""
    return {"format": FORMAT, "version": str(VERSION), "config": to_json(config), "scale": to_json(config["scale"])}


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Return the dict in a torch or safetensors file, whatever its name, on the CPU.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It is a folder or another kind of file, contains more than plain data, or has been damaged.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(str(file.relative_to(path)) for suffix in SUFFIXES for file in path.rglob(f"*{suffix}"))
        advice = f"name a file in it: {some_of(inside, 4)}" if inside else "it contains no checkpoint either"
        raise UserError(f"checkpoint {path} is a folder; {advice}")
    if not path.is_file():
        raise MissingFileError(f"checkpoint {path} does not exist")
    try:
        with open(path, "rb") as file:
            start = file.read(START)
            return _read_safetensors(file) if start[8:9] == b"{" else _read_archive(file)  # after its header's length
    except UserError:
        raise
    except pickle.UnpicklingError as error:  # torch's message advises to disable this protection
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it contains an object of the class {found[1]}" if found else "it contains more than plain data"
        raise UserError(
            f"{path} is not a checkpoint: {_described(start) or what}. Only tensors and plain data are read, since "
            "other objects can run code; where the file was written, save `model.state_dict()` instead"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    except UNREADABLE as error:
        what = _described(start) or f"damaged, half-written or another kind of file ({one_line(error)}); {ADVICE}"
        raise UserError(f"{path} is not a checkpoint: {what}") from error


def _described(start: bytes) -> str | None:
    """Return what a file is by its first bytes, if it is a kind that people take for a checkpoint."""
    if not start:
        return "an empty file"
    return next((title for magic, title in OTHER_FILES if start.lstrip().lower().startswith(magic)), None)


def _read_archive(file: BinaryIO) -> dict[str, Any]:
    """Return the dict that `torch.save` has written."""
    check_archive(file)
    file.seek(0)
    content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        what = f"it contains a {type(content).__name__}, not names and tensors"
        raise UserError(f"{file.name} is not a checkpoint: {what}")
    if is_own(content) and zipfile.is_zipfile(file):
        check_end(file)
    return content


def _read_safetensors(file: BinaryIO) -> dict[str, Any]:
    """Return the tensors by name; of our own file, the dict that `to_safetensors` was given."""
    with safe_open(file.name, "pt") as opened:
        metadata = opened.metadata() or {}
    unknown = sorted(metadata.keys() - METADATA) if is_own(metadata) else []
    if unknown:
        raise UserError(f"{file.name} is damaged: unknown metadata {', '.join(map(repr, unknown))}; {ADVICE}")
    if KEY in metadata:
        check_safetensors(file)
    tensors = load_file(file.name)
    if not is_own(metadata):
        return tensors
    present = (name for name in OPTIONAL if name in metadata)
    plain = {name: json.loads(metadata[name]) for name in ("version", "config", "scale", *present)}
    model = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}
    return {"format": FORMAT, **plain, "model": model}


def is_own(content: dict[str, Any]) -> bool:
    """Return whether a dict was written by this project rather than by the release or another project."""
    return content.get("format") == FORMAT


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint written by `save_checkpoint`.

    Raises:
        UserError: The file is something else, has another version, or a key that does not fit.
    """
    content = read_tensors(path)
    if not is_own(content):
        raise UserError(f"{path} was not written by this project's training")
    checked(CheckpointContent, content, path)
    return content
