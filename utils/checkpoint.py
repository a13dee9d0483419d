"""Checkpoints: plain dicts of tensors, lists, strings and numbers, which weights-only loading can read."""

import io
import json
import mmap
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from utils.checksum import (
    ADVICE,
    KEY,
    VALUE,
    add_to_archive,
    check_archive,
    check_end,
    check_records,
    check_safetensors,
    fill_in,
)
from utils.errors import SHOWN, MachineError, MissingFileError, UserError, one_line, shortened, some_of
from utils.files import to_json, write_atomically
from utils.schema import VERSION, CheckpointContent, checked

FORMAT = "richiqa"
SUFFIXES = (".pt", ".pth", ".safetensors", ".bin")
OPTIONAL = ("split", "chosen_epoch")  # in safetensors, as in `models.weights.TrainedNetwork`
METADATA = {"format", "version", "config", "scale", KEY, *OPTIONAL}  # of our safetensors
FOLDER = 0x10  # attribute of a record, from MS-DOS
ZIP = b"PK\x03\x04"  # start of a file of torch; of the older kind, there are PICKLES one after another instead
PICKLES = 5
PLAIN = re.compile(  # all that is called to make tensors and plain data; what else torch allows can fill the memory
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(parameter|tensor|tensor_v2|tensor_v3)"
    r"|torch\.nn\.parameter Parameter|torch(\.storage)? \w*Storage|torch (Size|device|bool|[a-z]*\d+\w*)"
)
MOST_VALUES = 20_000_000  # lists, mappings and what is in them, where what occurs several times counts as often
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
            content = _read_safetensors(file) if _is_safetensors(start) else _read_archive(file)
        _count_values(content, {})
        return content
    except UserError:
        raise
    except pickle.UnpicklingError as error:  # torch's message advises to disable this protection
        what = _described(start) or (
            str(error) if isinstance(error, _NotPlainError) else "it contains more than plain data"
        )
        raise UserError(
            f"{path} is not a checkpoint: {what}. Only tensors and plain data are read, since "
            "other objects can run code; where the file was written, save `model.state_dict()` instead"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    except MemoryError as error:
        raise MachineError(f"{path} cannot be read: not enough memory") from error
    except Exception as error:  # torch and safetensors raise errors of many types
        what = _described(start) or f"damaged, half-written or another kind of file ({one_line(error)}); {ADVICE}"
        raise UserError(f"{path} is not a checkpoint: {what}") from error


class _NotPlainError(pickle.UnpicklingError):
    """A pickle names something that is neither a tensor nor plain data."""


def _require_plain(file: BinaryIO, path: Path) -> None:
    """Check what a file of torch would call and how much it would unpack, before anything of it is loaded.

    Raises:
        _NotPlainError, ValueError: It is another one than those that torch.save writes of tensors and plain data.
    """
    size = path.stat().st_size
    file.seek(0)
    if file.read(len(ZIP)) == ZIP:
        reader = torch._C.PyTorchFileReader(str(path))  # the one that torch.load uses
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
        unpacked = sum(record.file_size for record in records)
        if hasattr(reader, "get_record_size"):  # not in torch 2.11, whose sizes may differ from those of zipfile
            unpacked = max(unpacked, sum(map(reader.get_record_size, reader.get_all_records())))
        odd = any(record.compress_size != record.file_size or _is_folder(record) for record in records)
        if unpacked > size or odd:
            raise ValueError(
                f"its records are compressed, of {unpacked} bytes, overlap, or are folders; torch.save writes none such"
            )
        names = _globals_in(reader.get_record("data.pkl"))
    else:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # allocates only what there is to be read
        names = (name for _ in range(PICKLES) for name in _globals_in(mapped))
    for name in names:
        if not PLAIN.fullmatch(name):
            kind = re.sub(r"^(builtins|__builtin__) ", "", name).replace(" ", ".")
            raise _NotPlainError(f"it contains an object of the class {shortened(kind, SHOWN)}")


def _is_folder(record: zipfile.ZipInfo) -> bool:
    """Return whether torch takes a record for a folder, which it reads nothing of: it returns what memory contained."""
    return record.is_dir() or bool(record.external_attr & FOLDER)


def _globals_in(source: bytes | mmap.mmap) -> Iterator[str]:
    """Yield `module name` for all that a pickle imports."""
    texts = ["", ""]  # the last two, which later kinds of pickles import
    for code, argument, _ in pickletools.genops(source):
        if code.name in ("GLOBAL", "INST"):
            yield argument
        elif code.name == "STACK_GLOBAL":
            yield " ".join(texts)
        elif isinstance(argument, str):
            texts = [texts[1], argument]


def _count_values(value: Any, known: dict[int, int]) -> int:
    """Return the number of values in nested lists and mappings.

    Raises:
        ValueError: There are too many, or a list or mapping contains itself.
    """
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST_VALUES + 1  # until all in it are counted
        inside = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(each, known) for each in inside)
        if known[id(value)] > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values, or lists that contain themselves")
    return known[id(value)]


def _described(start: bytes) -> str | None:
    """Return what a file is by its first bytes, if it is a kind that people take for a checkpoint."""
    if not start:
        return "an empty file"
    if _is_safetensors(start):  # whose length may begin like another kind
        return None
    return next((title for magic, title in OTHER_FILES if start.lstrip().lower().startswith(magic)), None)


def _read_archive(file: BinaryIO) -> dict[str, Any]:
    """Return the dict that `torch.save` has written."""
    summed = check_archive(file)
    _require_plain(file, Path(file.name))
    if not summed:
        check_records(file)
    file.seek(0)
    content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        what = f"it contains a {type(content).__name__}, not names and tensors"
        raise UserError(f"{file.name} is not a checkpoint: {what}")
    if is_own(content) and zipfile.is_zipfile(file):
        check_end(file)
    return content


def _is_safetensors(start: bytes) -> bool:
    return start[LENGTH.size :].startswith(b"{")  # after the length of this header


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
