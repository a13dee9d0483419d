"""Checkpoints: plain dicts of tensors, lists, strings and numbers, which weights-only loading can read."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from utils.errors import MissingFileError, UserError, one_line
from utils.files import to_json, write_atomically
from utils.schema import VERSION, CheckpointContent, checked

FORMAT = "richiqa"
# raised by torch and safetensors for other kinds of files, and for objects that weights-only loading refuses
UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, TypeError, AttributeError, LookupError, SafetensorError)


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Write a checkpoint completely or not at all."""
    content = {"format": FORMAT, "version": VERSION, **content}
    checked(CheckpointContent, content, path)
    buffer = io.BytesIO()  # torch.save raises its own errors when the disk is full
    torch.save(content, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def to_safetensors(model: dict[str, torch.Tensor], config: dict[str, Any]) -> bytes:
    """Return the content of a .safetensors file with weights and config, which `read_tensors` reads back.

    Its metadata, visible in any safetensors reader, come from `own_metadata`.
    """
    return save({name: tensor.contiguous() for name, tensor in model.items()}, own_metadata(config))


def own_metadata(config: dict[str, Any]) -> dict[str, str]:
    """Return the metadata of an exported network: format, version, and config and rating scale as JSON."""
    return {"format": FORMAT, "version": str(VERSION), "config": to_json(config), "scale": to_json(config["scale"])}


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Return the dict in a .pt, .pth, .bin or .safetensors file, on the CPU.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It is another kind of file, or contains more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"checkpoint {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's message advises to disable this protection
        raise UserError(
            f"{path} is not a checkpoint: not a torch file, or one that contains more than plain data"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    except UNREADABLE as error:
        raise UserError(
            f"{path} is not a checkpoint: damaged, half-written or another kind of file ({one_line(error)})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a checkpoint: it contains a {type(content).__name__}, not names and tensors")
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    tensors = load_file(path)
    if not is_own(metadata):
        return tensors
    plain = {name: json.loads(metadata[name]) for name in ("version", "config", "scale")}
    return {"format": FORMAT, **plain, "model": tensors}


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
