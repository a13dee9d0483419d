"""Export of a trained network to safetensors, ONNX and torch.export; each file is read back and checked."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from models.export_wrapper import ExportedNetwork
from models.weights import TrainedNetwork, load_network
from utils.checkpoint import own_metadata, to_safetensors
from utils.errors import UserError, one_line
from utils.files import not_written, temporary_folder, write_atomically

INPUT, OUTPUTS = "pixels", ("dos", "mos", "sos")
EXAMPLE_BATCH = 2  # torch.export treats sizes of 0 and 1 as constants
CHECKED = 3  # random images that a file is checked with; differs from the batch that the graph was captured with
SEED = 0
SMALL = 200_000  # values; with fewer, a tensor stays float32
HALF_TOLERANCE = 0.001 / 4  # largest difference in MOS of weights in float16: 0.001 on a scale from 1 to 5
OPSET = 18  # that of torch's ONNX functions, which needs no conversion

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class ExportFormat:
    """File format for export.

    Args:
        title: Name of the format in messages.
        suffix: Suffix of the file.
        write: Function that writes a network to a new file.
        read: Function that loads a file as a function from pixels (B, 3, H, W) to `dos`, `mos` and `sos`.
        packages: Required packages beyond requirements.txt.
        tolerance: Largest allowed difference from the network's outputs; for `mos` and `sos` as a fraction of the
            scale's width.
        compared: Outputs that the tolerance is for.
        advice: Next step if they differ by more.
    """

    title: str
    suffix: str
    write: Callable[[TrainedNetwork, Path], None]
    read: Callable[[Path], Callable[[Tensor], Outputs]]
    packages: tuple[str, ...] = ()
    tolerance: float = 1e-4
    compared: tuple[str, ...] = OUTPUTS
    advice: str = f"torch {torch.__version__} exports this network incorrectly: try another version"


def exported_network(network: TrainedNetwork) -> ExportedNetwork:
    """Return the network with normalisation and moments, in evaluation mode."""
    return ExportedNetwork(network.model, network.config.scale.bin_centers).eval()


def write_safetensors(network: TrainedNetwork, path: Path, store: Callable[[Tensor], Tensor] = lambda x: x) -> None:
    weights = {name: store(tensor) for name, tensor in network.model.state_dict().items()}
    split = {"split": without_folders(network.origin)} if network.origin else {}
    path.write_bytes(to_safetensors(weights, _plain_config(network), chosen_epoch=network.chosen_epoch, **split))


def halved(tensor: Tensor) -> Tensor:
    """Return a tensor as float16; unchanged if it is small, or has a value that is too large for float16.

    Small tensors are a small part of the file and most of the error. BatchNorm's statistics are among them, which are
    divided by, so that a small value must not become zero.
    """
    half = tensor.half()
    large = tensor.dtype == torch.float32 and tensor.numel() > SMALL
    return half if large and half.isfinite().all() else tensor


def without_folders(content: Any) -> Any:
    """Return plain content in which every absolute path, such as `dataset.root`, is replaced by its last part.

    An exported file is passed on, and nobody else has the folders of this machine.
    """
    if isinstance(content, dict):
        return {name: without_folders(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_folders(value) for value in content]
    return Path(content).name if isinstance(content, str) and Path(content).is_absolute() else content


def read_safetensors(path: Path) -> Callable[[Tensor], Outputs]:
    return exported_network(load_network(path))


def write_torch(network: TrainedNetwork, path: Path) -> None:
    torch.export.save(capture(network), path, extra_files=_metadata(network))


def read_torch(path: Path) -> Callable[[Tensor], Outputs]:
    return torch.export.load(path).module()


def write_onnx(network: TrainedNetwork, path: Path) -> None:
    program = torch.onnx.export(
        capture(network),
        dynamo=True,
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_shapes={INPUT: {0: "batch"}},  # names the captured dimension
        opset_version=OPSET,
        verbose=False,
    )
    program.model.metadata_props.update(_metadata(network))
    program.save(path, external_data=False)


def read_onnx(path: Path) -> Callable[[Tensor], Outputs]:
    import onnxruntime  # noqa: PLC0415, not in requirements.txt

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(pixels: Tensor) -> Outputs:
        arrays = session.run(list(OUTPUTS), {INPUT: pixels.numpy()})
        return {name: torch.from_numpy(array) for name, array in zip(OUTPUTS, arrays, strict=True)}

    return run


FORMATS = {
    "safetensors": ExportFormat("safetensors", ".safetensors", write_safetensors, read_safetensors, tolerance=0),
    "onnx": ExportFormat(
        f"ONNX, opset {OPSET}", ".onnx", write_onnx, read_onnx, packages=("onnx", "onnxscript", "onnxruntime")
    ),
    "torch": ExportFormat("torch.export", ".pt2", write_torch, read_torch),
}
HALF = replace(
    FORMATS["safetensors"],
    title="safetensors in float16",
    write=partial(write_safetensors, store=halved),
    tolerance=HALF_TOLERANCE,
    compared=("mos",),
    advice="float16 is not exact enough for this network: omit --half",
)


@torch.no_grad()
def capture(network: TrainedNetwork) -> ExportedProgram:
    """Capture the graph of a network for any batch size and the image size of its config."""
    side = network.config.transform.test_side
    example = torch.zeros(EXAMPLE_BATCH, 3, side, side)
    shapes = {INPUT: {0: torch.export.Dim("batch")}}
    return torch.export.export(exported_network(network), (example,), dynamic_shapes=shapes)


def write_file(form: ExportFormat, network: TrainedNetwork, path: Path) -> None:
    """Write a network to a new file.

    Raises:
        UserError: torch cannot export the network, as with some timm backbones, or the file cannot be written.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporters warn about their own code; the file is checked afterwards
            form.write(network, path)
    except OSError as error:
        raise not_written(path, error) from error
    except Exception as error:  # exporters raise errors of many types, some of them private
        raise UserError(
            f"{network.config.model.backbone} cannot be exported as {form.title} with torch {torch.__version__} "
            f"({one_line(error)}); --format safetensors always works"
        ) from error


def _metadata(network: TrainedNetwork) -> dict[str, str]:
    return own_metadata(_plain_config(network))


def _plain_config(network: TrainedNetwork) -> dict[str, Any]:
    return without_folders(network.config.model_dump(mode="json"))


def export(network: TrainedNetwork, form: ExportFormat, path: Path) -> dict[str, float]:
    """Export a network to a file, which is only written if its outputs match those of the network.

    Returns:
        Largest difference of each output; for `mos` and `sos` as a fraction of the scale's width.

    Raises:
        UserError: The network cannot be exported, the outputs differ, or the file cannot be written.
    """
    with temporary_folder() as folder:
        draft = folder / f"network{form.suffix}"
        write_file(form, network, draft)
        differences = compare(network, form, draft)
        if not all(differences[name] <= form.tolerance for name in form.compared):
            raise UserError(
                f"{path}: not written, since its outputs differ from the network's by "
                f"{describe_differences(differences)}, and {form.tolerance:g} is allowed in "
                f"{', '.join(form.compared)}; {form.advice}"
            )
        write_atomically(path, lambda file: file.write(draft.read_bytes()))
    return differences


@torch.inference_mode()
def compare(network: TrainedNetwork, form: ExportFormat, path: Path) -> dict[str, float]:
    """Return the largest difference of each output between a file and its network, on fixed random images.

    Raises:
        UserError: The network predicts values that are not finite.
    """
    side = network.config.transform.test_side
    pixels = torch.rand(CHECKED, 3, side, side, generator=torch.Generator().manual_seed(SEED))
    expected, found = exported_network(network)(pixels), form.read(path)(pixels)
    if not all(tensor.isfinite().all() for tensor in expected.values()):
        raise UserError(f"{network.path} predicts values that are not finite; its training diverged")
    scale = network.config.scale
    width = {"dos": 1, "mos": scale.high - scale.low, "sos": scale.high - scale.low}
    return {name: (found[name] - expected[name]).abs().max().item() / width[name] for name in OUTPUTS}


def describe_differences(differences: dict[str, float]) -> str:
    return ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
