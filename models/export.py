"""The file formats that a trained network leaves the project in: how each is written, and how it is read back."""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from models.export_wrapper import ExportedNetwork
from models.weights import TrainedNetwork, load_network
from utils.checkpoint import own_metadata, to_safetensors
from utils.errors import UserError, one_line
from utils.files import write_atomically

INPUT, OUTPUTS = "pixels", ("dos", "mos", "sos")
EXAMPLE_BATCH = 2  # torch.export takes sizes of 0 and 1 as constants
CHECKED = 3  # random images that a file is tried on; not the number that its graph was captured with
SEED = 0
OPSET = 18  # the one that torch's ONNX functions are written in; another is a conversion of it

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class ExportFormat:
    """One way out.

    Args:
        title: For people.
        suffix: Of the file.
        write: Fills a new file with a network.
        read: The function from pixels (B, 3, H, W) to `dos`, `mos`, `sos` that such a file stands for.
        packages: Needed beyond requirements.txt.
        tolerance: How far its outputs may be from the network's, `mos` and `sos` as shares of the scale's width.
    """

    title: str
    suffix: str
    write: Callable[[TrainedNetwork, Path], None]
    read: Callable[[Path], Callable[[Tensor], Outputs]]
    packages: tuple[str, ...] = ()
    tolerance: float = 1e-4


def as_exported(network: TrainedNetwork) -> ExportedNetwork:
    """From pixels to moments, in evaluation mode."""
    return ExportedNetwork(network.model, network.config.scale.bin_centers).eval()


def write_safetensors(network: TrainedNetwork, path: Path) -> None:
    path.write_bytes(to_safetensors(network.model.state_dict(), network.config.model_dump(mode="json")))


def read_safetensors(path: Path) -> Callable[[Tensor], Outputs]:
    return as_exported(load_network(path))


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
        dynamic_shapes={INPUT: {0: "batch"}},  # only names what the program has captured
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


@torch.no_grad()
def capture(network: TrainedNetwork) -> ExportedProgram:
    """The graph of an exported network, for any batch of images of the size that it was tested on."""
    crop = network.config.transform.crop
    example = torch.zeros(EXAMPLE_BATCH, 3, crop, crop)
    shapes = {INPUT: {0: torch.export.Dim("batch")}}
    return torch.export.export(as_exported(network), (example,), dynamic_shapes=shapes)


def write_file(form: ExportFormat, network: TrainedNetwork, path: Path) -> None:
    """Fills a new file.

    Raises:
        UserError: The exporters of torch cannot do it, as with some timm backbones.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporters about their own code; the file is compared afterwards
            form.write(network, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or one_line(error)}") from error
    except Exception as error:  # they raise whatever the code of a backbone runs into, much of it of private classes
        raise UserError(
            f"{network.config.model.backbone} cannot be exported as {form.title} with torch {torch.__version__} "
            f"({one_line(error)}); --format safetensors always works"
        ) from error


def _metadata(network: TrainedNetwork) -> dict[str, str]:
    return own_metadata(network.config.model_dump(mode="json"))


def export(network: TrainedNetwork, form: ExportFormat, path: Path) -> dict[str, float]:
    """Writes a file, whole or not at all, once it was read back and gave what the network gives.

    Returns:
        The largest difference of each output, `mos` and `sos` as shares of the scale's width.

    Raises:
        UserError: The network cannot be exported, the file computes something else, or the place is not writable.
    """
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / f"network{form.suffix}"
        write_file(form, network, draft)
        differences = compare(network, form, draft)
        if not all(difference <= form.tolerance for difference in differences.values()):
            raise UserError(
                f"{path} is not written: its outputs are not the network's ({in_words(differences)}, allowed: "
                f"{form.tolerance:g}); torch {torch.__version__} exports this network wrongly, try another version"
            )
        write_atomically(path, lambda file: file.write(draft.read_bytes()))
    return differences


@torch.inference_mode()
def compare(network: TrainedNetwork, form: ExportFormat, path: Path) -> dict[str, float]:
    """The largest differences between a file and the network that it was made of, on random images, always the same.

    Raises:
        UserError: The network predicts something that is not finite.
    """
    crop = network.config.transform.crop
    pixels = torch.rand(CHECKED, 3, crop, crop, generator=torch.Generator().manual_seed(SEED))
    expected, found = as_exported(network)(pixels), form.read(path)(pixels)
    if not all(tensor.isfinite().all() for tensor in expected.values()):
        raise UserError(f"{network.path} predicts values that are not finite; its training went wrong")
    scale = network.config.scale
    width = {"dos": 1, "mos": scale.high - scale.low, "sos": scale.high - scale.low}
    return {name: (found[name] - expected[name]).abs().max().item() / width[name] for name in OUTPUTS}


def in_words(differences: dict[str, float]) -> str:
    return ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
