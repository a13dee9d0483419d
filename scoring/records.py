"""What is written of each image: one flat record, the same in every format.

K bins.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from datasets.scale import RatingScale
from models.precision import FP32
from scoring.defaults import is_remote
from scoring.predictor import Prediction, Predictor, Prepared
from scoring.scale_text import scale_text

CENTRAL = 0.9  # of the opinions lie within `low_90` and `high_90`
DECIMALS = 8  # finer than float32 resolves
HEAD = ("path", "mos", "mos_01", "sos")
TAIL = (
    *("median", "entropy", "low_90", "high_90", "width", "height"),
    *("scale", "preprocess", "checkpoint", "notes", "error"),
)

Record = dict[str, Any]
Array = np.ndarray


def columns(scale: RatingScale) -> tuple[str, ...]:
    """Names of a record's fields, in order."""
    return (*HEAD, *(f"p{k}" for k in range(1, scale.num_bins + 1)), *TAIL)


class Recorder:
    """Makes the records of one predictor.

    A record: `path`; `mos` and `sos` in units of the scale; `mos_01` 0..1, higher is better whatever the scale;
    `p1`..`pK` the DOS, lowest score first; `median`, `low_90` and `high_90` in units of the scale: quantiles 0.5, 0.05
    and 0.95 of the DOS, opinions spread evenly over their bin; `entropy` of the DOS in nats, 0..ln K; `width` and
    `height` of the upright picture in pixels; `scale` as `--scale` takes it; `preprocess`, followed by the precision
    where that is not fp32 (`release@440x384+bf16`); `checkpoint`, the beginning of its SHA-256; `notes` on how the
    picture was read; `error`, and then no numbers. None where there is nothing.

    Args:
        predictor: Whose scale, preprocessing and checkpoint are told.
        relative_to: Folder that paths are told from; None: as they were named.
    """

    def __init__(self, predictor: Predictor, relative_to: str | None = None):
        self.relative_to = relative_to
        self.scale = predictor.scale
        self.columns = columns(predictor.scale)
        precision = "" if predictor.precision == FP32 else f"+{predictor.precision}"
        self.same = {
            "scale": scale_text(predictor.scale),
            "preprocess": predictor.preprocess.id + predictor.pictures.id + precision,
            "checkpoint": predictor.checkpoint_hash,
        }

    def name(self, path: str) -> str:
        """A path as records tell it: as text that every format can hold, bytes that are no UTF-8 as `\\xff`."""
        here = self.relative_to
        told = path if not path or here is None or is_remote(path) != is_remote(here) else os.path.relpath(path, here)
        return os.fsencode(told).decode("utf-8", "backslashreplace")

    def scored(self, path: str, prediction: Prediction, prepared: Prepared) -> Record:
        """The record of an image that was scored."""
        dos, scale = np.array(prediction.dos), self.scale
        share = (prediction.mos - scale.low) / (scale.high - scale.low)
        tail = (1 - CENTRAL) / 2
        median, low, high = quantiles(dos, scale, (0.5, tail, 1 - tail))
        numbers = {
            "mos": prediction.mos,
            "mos_01": share if scale.higher_is_better else 1 - share,
            "sos": prediction.sos,
            **{f"p{k}": value for k, value in enumerate(prediction.dos, start=1)},
            "median": median,
            "entropy": entropy(dos),
            "low_90": low,
            "high_90": high,
        }
        return self._record(
            path=self.name(path),
            **{name: round(float(value), DECIMALS) for name, value in numbers.items()},
            width=prepared.width,
            height=prepared.height,
            notes="; ".join(prepared.notes) or None,
        )

    def failed(self, path: str, error: str) -> Record:
        """The record of an image that could not be scored."""
        return self._record(path=self.name(path), error=os.fsencode(error).decode("utf-8", "backslashreplace"))

    def _record(self, **values: Any) -> Record:
        values = {**self.same, **values}
        return {name: values.get(name) for name in self.columns}


def quantiles(dos: Array, scale: RatingScale, shares: Sequence[float]) -> Array:
    """Scores below which these shares of a DOS (K,) lie, within the ends of the scale.

    Opinions count as spread evenly over their bin, as in the PIT of utils/metrics.py.
    """
    below = np.concatenate([[0.0], dos.cumsum()])  # (K + 1,)
    return np.clip(np.interp(np.array(shares) * below[-1], below, scale.edges), scale.low, scale.high)


def entropy(dos: Array) -> float:
    """Shannon entropy of a DOS (K,) in nats; 0 ln 0 is 0."""
    present = dos[dos > 0]
    return float(-(present * np.log(present)).sum()) + 0.0  # no -0
