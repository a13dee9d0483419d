"""Scoring and training on a CUDA GPU, beside the peer in eager float32 and the limit of the GPU."""

import statistics
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.data_cache import write_photos
from benchmarks.inference import GFLOP, SIDE, best_batches, both, random_images, rates
from benchmarks.peer import PEER, networks, trained_networks
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import milliseconds, seconds
from datasets.cache import PictureSource
from datasets.dataset import IQADataset, batches, make_loader
from datasets.ratings import Record
from datasets.scale import RatingScale
from datasets.transforms import build_test_crop, build_train_crop
from experiments.evaluation.predict import predict
from experiments.training.precision import scoring_precision, use_precision
from experiments.training.state import TrainingState
from experiments.training.step import Stepper
from losses import JointLoss
from models import build_model
from models.compiling import CompiledScorer
from utils.config import load_config
from utils.errors import UserError
from utils.settings import Config

FAST = Path(__file__).resolve().parents[1] / "configs" / "koniq10k_fast.yaml"
BATCHES = (16, 32, 64, 128, 256)
RUNS = 10
WARM_UP = 5  # steps, the compiling among them
CEILING = 8192  # rows and columns of the matrices whose product is the limit
TRAINING = 3  # a step is three times the arithmetic of a forward pass
PHOTOS, REPEATED = 256, 8  # 2048 images an epoch
KONIQ_TRAIN, KONIQ_TEST = 8058, 2015  # images of a split
HOUR = 3600


def require_gpu() -> torch.device:
    """The GPU.

    Raises:
        UserError: There is none.
    """
    if not torch.cuda.is_available():
        raise UserError("a CUDA GPU is needed for the rows inference_gpu, train_gpu and protocol_gpu")
    return torch.device("cuda")


def measure_inference() -> list[Measured]:
    """`inference_gpu`: milliseconds for an image in the best batch; `_of_ceiling` and `_compiled` of it."""
    device = require_gpu()
    _, fast, peer = networks("auto", device)
    size, ours, of_peer, peers = best_batches(fast, peer, BATCHES, device)
    what = f"an image of {SIDE} pixels in batches of {size}, --precision auto"
    with torch.inference_mode():
        pairs = both(CompiledScorer(fast, "compile"), fast, random_images(size, device), RUNS)
    compiled, plain = ([value / size for value in side] for side in pairs)
    return [
        Measured("inference_gpu", what, f"{PEER}, eager fp32, batches of {of_peer}", "ms", ours, peers),
        of_ceiling("inference_gpu_of_ceiling", ours, GFLOP, device),
        Measured("inference_gpu_compiled", f"{what} --compile", "the same, not compiled", "ms", compiled, plain),
    ]


def measure_training() -> list[Measured]:
    """`train_gpu`: milliseconds for an image in a step of configs/koniq10k_fast.yaml, its data there already."""
    device, config = require_gpu(), load_config(FAST)
    network, peer = trained_networks(device)
    batch = random_batch(config)
    steppers = [stepper_of(model, chosen) for model, chosen in ((network, config), (peer, eager(config)))]
    with use_precision(config.train.precision, device):
        for stepper in steppers:
            for _ in range(WARM_UP):
                stepper.step(batch)
        steps = (lambda stepper=each: milliseconds(lambda: stepper.step(batch)) for each in steppers)
        ours, peers = in_turn(*steps, RUNS)
    size = config.train.batch_size
    ours, peers = ([value / size for value in side] for side in (ours, peers))
    what = f"an image of {config.transform.crop} pixels in a step of configs/{FAST.name}, batches of {size}"
    return [
        Measured("train_gpu", what, f"{PEER} and loss, eager fp32", "ms", ours, peers),
        of_ceiling("train_gpu_of_ceiling", ours, TRAINING * GFLOP, device),
    ]


def measure_protocol() -> list[Measured]:
    """`protocol_gpu`: hours of the whole protocol on KonIQ-10k, from measured epochs and evaluations, both cached."""
    device, config = require_gpu(), load_config(FAST)
    network = build_model(config.model).to(device)
    stepper = stepper_of(network, config)
    with tempfile.TemporaryDirectory() as folder:
        names = write_photos(Path(folder), PHOTOS) * REPEATED
        source = PictureSource("photos", Path(folder), cache="disk", folder=Path(folder) / "cache")
        records = [Record(name, 3.0, 1.0, (0.2,) * 5) for name in names]
        pictures = source.pictures(names, config.transform.resize)
        options = {"batch_size": config.train.batch_size, "workers": config.train.workers, "pin_memory": True}
        train = make_loader(IQADataset(pictures, records, build_train_crop(config.transform)), train=True, **options)
        test = make_loader(IQADataset(pictures, records, build_test_crop(config.transform)), **options)

        def epoch() -> None:
            network.train()
            for batch in batches(train):
                stepper.step(batch)
            stepper.read()

        def evaluation() -> None:
            predict(network, test, scoring_precision(config.train.precision))

        for pass_ in (epoch, evaluation):
            pass_()  # once for nothing
        trained, tested = in_turn(lambda: seconds(epoch), lambda: seconds(evaluation), 3)
    epochs = config.protocol.splits * config.train.epochs
    hours = [
        epochs * (train_seconds * KONIQ_TRAIN + test_seconds * KONIQ_TEST) / len(names) / HOUR
        for train_seconds, test_seconds in zip(trained, tested, strict=True)
    ]
    what = f"{epochs} epochs of KonIQ-10k with their evaluations, from epochs of {len(names)} images"
    return [Measured("protocol_gpu", what, "", "h", hours)]


def of_ceiling(name: str, taken: list[float], gflop: float, device: torch.device) -> Measured:
    """The share of the rate of bfloat16 matrix products on this GPU, from milliseconds for an image."""
    ceiling = statistics.median(rates(CEILING, torch.bfloat16, device))
    what = f"share of {ceiling / 1000:.0f} TFLOP/s, products of {CEILING} x {CEILING} matrices in bf16"
    return Measured(name, what, "", "%", [100 * gflop / each * 1000 / ceiling for each in taken])


def eager(config: Config) -> Config:
    """The same optimisation in float32, not compiled."""
    plain = config.train.model_copy(update={"precision": "fp32", "compile": False})
    return config.model_copy(update={"train": plain})


def stepper_of(model: nn.Module, config: Config) -> Stepper:
    scale = RatingScale(**config.scale.model_dump())
    return Stepper(TrainingState(model.train(), config, 1), JointLoss(scale), config.train)


def random_batch(config: Config) -> dict[str, Tensor | list[str]]:
    """A batch as a loader gives it."""
    size, crop, generator = config.train.batch_size, config.transform.crop, torch.Generator().manual_seed(0)
    batch = {
        "image": torch.randint(0, 256, (size, 3, crop, crop), generator=generator, dtype=torch.uint8).pin_memory(),
        "mos": torch.full((size,), 3.0),
        "sos": torch.ones(size),
        "dos": torch.full((size, 5), 0.2),
        "database": torch.zeros(size, dtype=torch.int64),
    }
    return {**batch, "name": [str(number) for number in range(size)]}
