"""A trained network that predicts how people would rate images.

B images, V views of one image, H W image size, K bins.
"""

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from datasets.decoding import DRAFT_MARGIN
from datasets.scale import RatingScale
from datasets.transforms import central_box, normalise
from models.compiling import CompiledScorer, require_compiler
from models.fused import fused_model
from models.precision import FP32, precision_plan
from models.weights import TrainedNetwork
from scoring.defaults import DRAFT
from scoring.opinions import PANEL, Comparison, Prediction, Ranked, compare, ranking
from scoring.pictures import Encoded, PictureSettings, opened_picture
from scoring.preprocess import FULL, RELEASE, build_preprocess
from utils.errors import UserError, one_line
from utils.memory import enough_memory
from utils.schema import TRAIN_MOS
from utils.threads import use_one_thread_after_fork

SMALLER_BATCH = "use a smaller --batch-size"
COMPILE = "compile"  # the option's name in messages
SPAWN = "start processes by multiprocessing.get_context('spawn')"
AHEAD = 2  # batches that are decoded while one is scored

Array = np.ndarray
Buffer = bytes | bytearray | memoryview
ImageInput = str | os.PathLike | Buffer | BinaryIO | Encoded | Image.Image | Array | Tensor


@dataclass(frozen=True)
class Prepared:
    """The views (V, 3, H, W) of one image, ready to be scored.

    Args:
        views: Inputs of the network.
        width: Width of the upright image in pixels.
        height: Its height.
        notes: Remarks on how it was read.
        preview: A smaller copy, if the predictor has a `preview_side`.
    """

    views: Tensor
    width: int
    height: int
    notes: tuple[str, ...]
    preview: Image.Image | None = None


# an image, what was read, and its prediction; without a prediction for an error instead of what was read
Scored = tuple[ImageInput, Prepared | UserError, Prediction | None]


class Predictor:
    """A trained network with its transform and rating scale; built by `scoring.loading.load_predictor`.

    `model` is the network for quality maps and gradients; scores come from `fused`, its optimised version. A predictor
    can be used from several threads, pickled for other processes and, on a CPU, used after a fork.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        checkpoint_hash: str,
        device: torch.device,
        preprocess: str = RELEASE,
        pictures: PictureSettings = PictureSettings(),
        precision: str = FP32,
        compiled: bool = False,
    ):
        self.preview_side: int | None = None  # long side of `Prepared.preview` in pixels; None makes no previews
        self.model = network.model.eval().requires_grad_(False).to(device)
        self.precision = precision_plan(precision, device).describe()
        self.scale = RatingScale.from_settings(network.config.scale)
        self.train_mos = (network.origin or {}).get(TRAIN_MOS)
        self.transform = network.config.transform
        self.preprocess = build_preprocess(preprocess, network.config.transform)
        self.fused = fused_model(self.model, precision, packed=not compiled)
        if compiled:
            if preprocess == FULL:
                raise UserError(
                    f"{COMPILE}: a network is compiled for one image size, and preprocess {FULL} has no fixed size; "
                    "choose one"
                )
            require_compiler(device, COMPILE)
            self.fused = CompiledScorer(self.fused, COMPILE)
        self.pictures = pictures
        self.device = device
        self.checkpoint = network.path
        self.checkpoint_hash = checkpoint_hash
        self._started()

    def _started(self) -> None:
        self.process = os.getpid()
        use_one_thread_after_fork()

    def __getstate__(self) -> dict[str, bytes]:
        """Return the state as bytes, since torch sends tensors to other processes by /dev/shm, which may be small."""
        content = io.BytesIO()
        torch.save(vars(self), content)
        return {"state": content.getvalue()}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        vars(self).update(torch.load(io.BytesIO(state["state"]), weights_only=False))
        self._started()

    def __call__(self, images: ImageInput | Sequence[ImageInput]) -> Prediction | list[Prediction]:
        """Score one image or a list of images, exactly as the evaluation in main.py does.

        Args:
            images: A path, the bytes of an image file, a binary file, a PIL image, an array (H, W), (H, W, 3) or
                (H, W, 4), or a torch tensor (C, H, W). Arrays and tensors are uint8, uint16, bool, or float from 0 to
                1. A list, or an array or tensor with one more dimension, is a list of images.

        Returns:
            One prediction, or a list of predictions.

        Raises:
            MissingFileError: The file does not exist.
            UserError: The image cannot be decoded, or has another type.
        """
        if isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4:
            return list(self.score_many(images))
        return self.predict([self.prepare(images)])[0]

    def compare(self, a: ImageInput, b: ImageInput, panel: int = PANEL, correlation: float = 0.0) -> Comparison:
        """Return which of two images people would find better; see `scoring.opinions.compare`."""
        return compare(*self([a, b]), panel, correlation)

    def best(self, images: Sequence[ImageInput]) -> list[Ranked]:
        """Return several images in order of the probability that a person finds them best, as `scoring.opinions` does.

        Raises:
            UserError: There are more than 1,000 images, or one cannot be read.
        """
        return ranking(self(list(images)))

    def standing(self, prediction: Prediction) -> float | None:
        """Return the share of the training images whose MOS label is below a predicted MOS, from 0 to 1.

        None if the checkpoint does not record these labels.
        """
        if not self.train_mos:
            return None
        shares = np.linspace(0, 1, len(self.train_mos))
        return float(np.interp(self.scale.normalised(prediction.mos), self.train_mos, shares))

    def score_many(
        self, images: Iterable[ImageInput], batch_size: int = 8, workers: int = 2, errors: str = "raise"
    ) -> Iterator[Prediction | UserError]:
        """Score a stream of images in order, decoding the next ones in the background.

        Args:
            images: As for a call; read from the stream only when they are needed.
            batch_size: Number of images per forward pass; changes scores by rounding only.
            workers: Number of threads that read and decode.
            errors: `raise`, or `return` to yield the error in place of the prediction and continue.

        Raises:
            UserError: As for a call.
        """
        if errors not in ("raise", "return"):
            raise UserError(f"errors: {errors!r}; allowed: raise, return")
        if batch_size < 1 or workers < 1:
            raise UserError(f"batch_size and workers are 1 or more, got {batch_size} and {workers}")
        for batch in self.scored_batches(images, batch_size, workers):
            for _, prepared, prediction in batch:
                if prediction is None and errors == "raise":
                    raise prepared
                yield prepared if prediction is None else prediction

    def scored_batches(self, images: Iterable[ImageInput], batch_size: int, workers: int) -> Iterator[list[Scored]]:
        """Score a stream of images batch by batch; an image that cannot be read is returned with its error."""
        if isinstance(self.fused, CompiledScorer):
            self.fused.expect(batch_size)
        waiting: deque[tuple[ImageInput, Future]] = deque()
        stream = iter(images)
        with ThreadPoolExecutor(workers) as pool:
            try:
                while True:
                    for image in islice(stream, AHEAD * batch_size + workers - len(waiting)):
                        waiting.append((image, pool.submit(self.prepare, image)))
                    if not waiting:
                        return
                    batch = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                    readable = [done.result() for _, done in batch if not isinstance(done.exception(), UserError)]
                    scored = iter(zip(readable, self.predict(readable), strict=True))
                    results = []
                    for image, done in batch:
                        error = done.exception()
                        results.append((image, error, None) if isinstance(error, UserError) else (image, *next(scored)))
                    yield results
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def prepare(self, image: ImageInput) -> Prepared:
        """Read one image and prepare its views; raises as a call does."""
        coarse = DRAFT_MARGIN * self.preprocess.side if self.pictures.decode == DRAFT else None
        with opened_picture(image, self.pictures, coarse) as picture:
            width, height = picture.size
            views = torch.stack(self.preprocess.views(picture.image))
            preview = None
            if self.preview_side is not None:
                preview = picture.image.copy()
                preview.thumbnail((self.preview_side, self.preview_side))
        notes = picture.notes
        if min(width, height) < self.transform.test_side:
            notes = (*notes, f"smaller than the network's input of {self.transform.test_side} pixels: enlarged")
        return Prepared(views, width, height, notes, preview)

    @torch.inference_mode()
    def predict(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        """Score prepared images; views of equal size share one forward pass.

        Raises:
            UserError: The network predicts values that are not finite, or cannot take views of this size; or this
                process was forked and the predictor is on a GPU.
            MachineError: The device does not have enough memory.
        """
        predictions: dict[int, Prediction] = {}
        for shape in dict.fromkeys(item.views.shape for item in prepared):
            indices = [index for index, item in enumerate(prepared) if item.views.shape == shape]
            views = torch.cat([prepared[index].views for index in indices]).to(self.device)  # (B*V, 3, H, W)
            dos = self._dos(views).reshape(len(indices), -1, self.scale.num_bins).mean(axis=1)  # (B, V, K) -> (B, K)
            for index, mos, sos, shares in zip(indices, self.scale.mean(dos), self.scale.std(dos), dos, strict=True):
                predictions[index] = Prediction(float(mos), float(sos), tuple(shares.tolist()), self.scale)
        return [predictions[index] for index in range(len(prepared))]

    def differentiable(self, pixels: Tensor) -> Tensor:
        """Return the MOS (B,) of images (B, 3, H, W) from 0 to 1, differentiable with respect to the pixels.

        Useful as a loss. Squash and central crop are those of the test transform but on floats, whereas PIL rounds to
        8 bits, so that the MOS differs slightly from that of a call. On some scales lower is better: see `scale`.

        Raises:
            UserError: The images have another shape, or are not floats.
        """
        if pixels.dim() != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            got = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise UserError(f"differentiable: a float tensor (B, 3, H, W) in 0..1 is needed, got {got}")
        size = (self.transform.resize, self.transform.resize)
        square = F.interpolate(pixels.to(self.device, torch.float32), size, mode="bilinear", antialias=True)
        left, top, right, bottom = central_box(self.transform.resize, self.transform.test_side)
        return self.scale.mean(self.model(normalise(square[:, :, top:bottom, left:right])))  # (B,)

    def _dos(self, views: Tensor) -> Array:
        """Return the DOS (B, K) in float64 for views (B, 3, H, W)."""
        height, width = views.shape[-2:]
        if self.device.type != "cpu" and os.getpid() != self.process:
            raise UserError(f"{self.device} cannot be used in a forked process; {SPAWN}")
        try:
            with enough_memory(SMALLER_BATCH):
                dos = self.fused(views).cpu().double().numpy()
        except (AssertionError, ValueError, RuntimeError) as error:  # from torch and timm, about another size
            if isinstance(error, UserError) or height == width == self.transform.test_side:
                raise
            raise UserError(
                f"preprocess: this backbone cannot take {width}x{height} pixels ({one_line(error)}); use release"
            ) from error
        if not np.isfinite(dos).all():
            reason = "its training went wrong" if self.precision == FP32 else f"try --precision {FP32}"
            raise UserError(f"{self.checkpoint} predicts values that are not finite; {reason}")
        return dos
