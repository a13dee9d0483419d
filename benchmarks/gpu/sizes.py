"""How much of everything the parts measure: in full on a GPU, or small, to see that they run."""

from dataclasses import dataclass

import torch

from utils.errors import UserError


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is measured.

    Args:
        device: Where everything runs.
        backbone: Name of a CvT.
        side: Width and height of the images, in pixels.
        resize: Width and height that images are squashed to before they are cropped to `side`.
        batch: Images in a training step, as in configs/koniq10k.yaml.
        large_batches: Larger batches, rising; the first is also trained with.
        runs: Measurements of each figure.
        seconds: What a measurement takes at least.
        ceiling: Rows and columns of the matrices whose product is the ceiling.
        agreement_steps: Steps that bf16 and fp32 are compared over.
        photos: JPEGs of the database that an epoch is measured on; half of them are for training.
        epochs: Epochs that main.py trains; the first is not counted.
        profiled_steps: Steps of a profile.
    """

    device: torch.device
    backbone: str = "cvt_21"
    side: int = 384
    resize: int = 512
    batch: int = 32
    large_batches: tuple[int, ...] = (128, 256)
    runs: int = 5
    seconds: float = 0.3
    ceiling: int = 8192
    agreement_steps: int = 200
    photos: int = 3000
    epochs: int = 3
    profiled_steps: int = 20


SMALL = Sizes(
    torch.device("cpu"),
    backbone="cvt_13",
    side=64,
    resize=80,
    batch=4,
    large_batches=(6,),
    runs=2,
    seconds=0.0,
    ceiling=64,
    agreement_steps=20,
    photos=20,
    epochs=2,
    profiled_steps=2,
)


def choose_sizes(small: bool) -> Sizes:
    """Return the sizes for this machine.

    Raises:
        UserError: No CUDA GPU is available and `small` is false.
    """
    if small:
        return SMALL
    if not torch.cuda.is_available():
        raise UserError("benchmarks.gpu: no CUDA GPU is available here; add --small to try the code on the CPU")
    return Sizes(torch.device("cuda"))
