"""A trained network as a function from pictures to what people would say of them.

B pictures, V views of one, H W image size, K bins.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from datasets.scale import RatingScale
from datasets.transforms import central_box, normalise
from models.compiling import CompiledScorer, require_compiler
from models.fused import fused_model
from models.precision import FP32, precision_plan
from models.weights import TrainedNetwork
from scoring.pictures import Encoded, PictureSettings, opened_picture, to_picture
from scoring.preprocess import FULL, RELEASE, build_preprocess
from utils.errors import UserError, one_line
from utils.memory import enough_memory

SMALLER_BATCH = "use a smaller --batch-size"
COMPILE = "compile"  # as messages name it
AHEAD = 2  # batches that are decoded while one is scored

Array = np.ndarray
Shown = str | Path | Encoded | Image.Image | Array | Tensor


@dataclass(frozen=True)
class Prediction:
    """What people would say of one image: `mos` and `sos` in units of `scale`, `dos` over its bins, lowest first."""

    mos: float
    sos: float
    dos: tuple[float, ...]
    scale: RatingScale


@dataclass(frozen=True)
class Prepared:
    """A picture that is ready to be scored, views (V, 3, H, W); `small` is there where it is to be shown."""

    views: Tensor
    width: int
    height: int
    notes: tuple[str, ...]
    small: Image.Image | None = None


class Predictor:
    """A trained network with its transform and its rating scale; made by `scoring.loading.load_predictor`.

    `model` is the network, for maps and gradients; scores come from what `fused_model` makes of it.
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
        self.kept_side: int | None = None  # pixels of the long side of `Prepared.small`; None: there is none
        self.model = network.model.eval().requires_grad_(False).to(device)
        self.precision = precision_plan(precision, device).describe()
        self.scale = RatingScale(**network.config.scale.model_dump())
        self.transform = network.config.transform
        self.preprocess = build_preprocess(preprocess, network.config.transform)
        fused = fused_model(self.model, precision)
        self.fused = compiled_scorer(fused, device, preprocess) if compiled else fused
        self.pictures = pictures
        self.device = device
        self.checkpoint = network.path
        self.checkpoint_hash = checkpoint_hash

    def __call__(self, images: Shown | Sequence[Shown]) -> Prediction | list[Prediction]:
        """Scores one image, as the evaluation of main.py does, or a list of them.

        Args:
            images: Each a path, a PIL image of any mode, or a uint8 array or tensor: (H, W), (H, W, 3) or (H, W, 4)
                of NumPy, (C, H, W) of torch; of torch also float in 0..1. A list, or an array or tensor with one more
                dimension, is a list of images.

        Returns:
            A prediction, or a list of them.

        Raises:
            MissingFileError: No such file.
            UserError: Not an image that can be decoded, or another type.
        """
        if is_several(images):
            return list(self.score_many(images))
        return self.predict([self.prepare(images)])[0]

    def score_many(
        self, images: Iterable[Shown], batch_size: int = 8, workers: int = 2, errors: str = "raise"
    ) -> Iterator[Prediction | UserError]:
        """Scores a stream of images, in its order, decoding the next ones meanwhile.

        Args:
            images: As for a call; taken from the stream as they are needed.
            batch_size: How many go through the network at once; changes scores by rounding alone.
            workers: Threads that read and decode.
            errors: `raise`, or `return`: the error takes the place of the prediction, and the stream goes on.

        Raises:
            UserError: As for a call.
        """
        if errors not in ("raise", "return"):
            raise UserError(f"errors: {errors!r}; allowed: raise, return")
        if batch_size < 1 or workers < 1:
            raise UserError(f"batch_size and workers are 1 or more, got {batch_size} and {workers}")
        for batch in self.prepared_batches(images, batch_size, workers):
            predictions = iter(self.predict([item for item in batch if isinstance(item, Prepared)]))
            for item in batch:
                if isinstance(item, UserError) and errors == "raise":
                    raise item
                yield item if isinstance(item, UserError) else next(predictions)

    def prepared_batches(
        self, images: Iterable[Shown], batch_size: int, workers: int
    ) -> Iterator[list[Prepared | UserError]]:
        """Batches of what `prepare` makes of a stream of images, or the error that it raises."""
        if isinstance(self.fused, CompiledScorer):
            self.fused.expect(batch_size)
        waiting: deque[Future] = deque()
        stream = iter(images)
        with ThreadPoolExecutor(workers) as pool:
            try:
                while True:
                    while len(waiting) < AHEAD * batch_size + workers:
                        image = next(stream, waiting)  # `waiting` itself says that there are no more
                        if image is waiting:
                            break
                        waiting.append(pool.submit(self._prepared_or_error, image))
                    if not waiting:
                        return
                    yield [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def prepare(self, image: Shown) -> Prepared:
        """Reads one image and makes its views.

        Raises:
            MissingFileError: No such file.
            UserError: Not an image that can be decoded, or another type.
        """
        source = image if isinstance(image, (str, Path, Encoded)) else to_picture(image)
        with opened_picture(source, self.pictures) as picture:
            width, height = picture.image.size
            views = torch.stack(self.preprocess.views(picture.image))
            small = self._small(picture.image)
        notes = picture.notes
        if min(width, height) < self.transform.crop:
            notes = (*notes, f"smaller than the {self.transform.crop} pixels that the network sees: enlarged")
        return Prepared(views, width, height, notes, small)

    @torch.inference_mode()
    def predict(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        """Scores what `prepare` made; pictures whose views have the same size go through the network together.

        Raises:
            UserError: The network predicts something that is not finite, or cannot take views of this size.
            MachineError: The device has not enough memory for them.
        """
        groups: dict[torch.Size, list[int]] = {}
        for index, item in enumerate(prepared):
            groups.setdefault(item.views.shape, []).append(index)
        predictions: dict[int, Prediction] = {}
        for indices in groups.values():
            views = torch.cat([prepared[index].views for index in indices]).to(self.device)  # (B*V, 3, H, W)
            dos = self._dos(views).reshape(len(indices), -1, self.scale.num_bins).mean(axis=1)  # (B, V, K) -> (B, K)
            scores = zip(self.scale.mean(dos), self.scale.std(dos), dos, strict=True)
            for index, (mos, sos, shares) in zip(indices, scores, strict=True):
                predictions[index] = Prediction(float(mos), float(sos), tuple(shares.tolist()), self.scale)
        return [predictions[index] for index in range(len(prepared))]

    def differentiable(self, pixels: Tensor) -> Tensor:
        """MOS (B,) of images (B, 3, H, W) in 0..1, with a gradient that reaches the pixels: a loss, or a filter.

        The squash and the central crop are those of the test transform, on floats: PIL rounds to 8 bits, so a MOS
        differs from that of a call by a little. Lower may be better: see `scale`.

        Raises:
            UserError: Another shape, or not floats.
        """
        if pixels.dim() != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            got = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise UserError(f"differentiable: a float tensor (B, 3, H, W) in 0..1 is needed, got {got}")
        size = (self.transform.resize, self.transform.resize)
        square = F.interpolate(pixels.to(self.device, torch.float32), size, mode="bilinear", antialias=True)
        left, top, right, bottom = central_box(self.transform.resize, self.transform.crop)
        return self.scale.mean(self.model(normalise(square[:, :, top:bottom, left:right])))  # (B,)

    def _small(self, image: Image.Image) -> Image.Image | None:
        if self.kept_side is None:
            return None
        small = image.copy()
        small.thumbnail((self.kept_side, self.kept_side))
        return small

    def _prepared_or_error(self, image: Shown) -> Prepared | UserError:
        try:
            return self.prepare(image)
        except UserError as error:
            return error

    def _dos(self, views: Tensor) -> Array:
        """DOS (B, K), float64, of views (B, 3, H, W)."""
        with self._any_size(views), enough_memory(SMALLER_BATCH):
            dos = self.fused(views).cpu().double().numpy()
        if not np.isfinite(dos).all():
            reason = "its training went wrong" if self.precision == FP32 else f"try --precision {FP32}"
            raise UserError(f"{self.checkpoint} predicts values that are not finite; {reason}")
        return dos

    @contextmanager
    def _any_size(self, views: Tensor) -> Iterator[None]:
        """What torch and timm say of views of another size than the network was trained with."""
        try:
            yield
        except (AssertionError, ValueError, RuntimeError) as error:
            height, width = views.shape[-2:]
            if isinstance(error, UserError) or height == width == self.transform.crop:
                raise
            raise UserError(
                f"preprocess: this backbone cannot take {width}x{height} pixels ({one_line(error)}); use release"
            ) from error


def compiled_scorer(network: nn.Module, device: torch.device, preprocess: str) -> CompiledScorer:
    """A network compiled for views of one size.

    Raises:
        UserError: There is no compiler, or views are of any size.
    """
    if preprocess == FULL:
        raise UserError(
            f"{COMPILE}: a network is compiled for one size of picture, and preprocess {FULL} has any; choose one"
        )
    require_compiler(device, COMPILE)
    return CompiledScorer(network, COMPILE)


def is_several(images: Shown | Sequence[Shown]) -> bool:
    """Whether an argument is a list of images rather than one."""
    if isinstance(images, (np.ndarray, Tensor)):
        return images.ndim == 4
    return isinstance(images, (list, tuple))
