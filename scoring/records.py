"""Score rows: one flat dictionary per image, with the same fields in every output format.

K bins.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from datasets.scale import RatingScale
from models.precision import FP32
from scoring.defaults import is_remote
from scoring.opinions import Prediction, good_or_better, panel_mean, poor_or_worse, ranking
from scoring.predictor import Predictor, Prepared
from scoring.scale_text import scale_text

CENTRAL = 0.9  # share of the opinions between `low_90` and `high_90`
DECIMALS = 8  # finer than float32 resolves
RUN_FIELDS = ("scale", "preprocess", "checkpoint")  # the same in all rows of a run
PANEL_FIELDS = ("panel", "panel_low", "panel_high", "panel_good")
BEST_FIELDS = ("rank", "best")
TEXT_FIELDS = ("path", *RUN_FIELDS, "notes", "error")  # all others are numbers

ScoreRow = dict[str, Any]
Array = np.ndarray


class RowBuilder:
    """Build the score rows of one predictor.

    The fields of a row:
        path: The image, relative to `relative_to` if that is given.
        mos, sos: In units of the scale.
        mos_01: MOS from 0 to 1; higher is better on every scale.
        p1, ..., pK: The DOS, lowest score first.
        median, low_90, high_90: Quantiles 0.5, 0.05 and 0.95 of the DOS in units of the scale, with opinions spread
            evenly over their bin.
        gob, pow: Share of opinions that are good or better, and poor or worse; see scoring/opinions.py.
        entropy: Entropy of the DOS in nats, 0 to ln K.
        panel, panel_low, panel_high, panel_good: With a panel, its size, the interval of its mean in units of the
            scale, and the probability that it calls the image good; see scoring/opinions.py.
        rank, best: With a ranking, the place of the image and the probability that a person finds it best of all.
        width, height: Size of the upright picture in pixels.
        scale: The rating scale, as `--scale` takes it.
        preprocess: The preprocessing, followed by the precision unless that is fp32: `release@440x384+bf16`.
        checkpoint: The first digits of the checkpoint's SHA-256.
        notes: Remarks on how the picture was read.
        error: Why the image could not be scored; such a row has no numbers.
    A field without a value is None.

    Args:
        predictor: Its scale, preprocessing and checkpoint are part of every row.
        relative_to: Folder that paths are relative to; None keeps paths as they were given.
        panel: Number of people in a panel; None omits its fields.
        best: Whether images are ranked, see `best_first`.
    """

    def __init__(
        self, predictor: Predictor, relative_to: str | None = None, panel: int | None = None, best: bool = False
    ):
        self.relative_to = relative_to
        self.panel = panel
        self.scale = predictor.scale
        self.columns = (
            *("path", "mos", "mos_01", "sos"),
            *(f"p{k}" for k in range(1, predictor.scale.num_bins + 1)),
            *("median", "entropy", "low_90", "high_90", "gob", "pow"),
            *(PANEL_FIELDS if panel is not None else ()),
            *(BEST_FIELDS if best else ()),
            *("width", "height", *RUN_FIELDS, "notes", "error"),
        )
        precision = "" if predictor.precision == FP32 else f"+{predictor.precision}"
        self.run_fields = {
            "scale": scale_text(predictor.scale),
            "preprocess": predictor.preprocess.id + predictor.pictures.id + precision,
            "checkpoint": predictor.checkpoint_hash,
            **({"panel": panel} if panel is not None else {}),
        }

    def name(self, path: str) -> str:
        """Return a path as rows show it: valid text in every format, with bytes that are not UTF-8 as `\\xff`."""
        base = self.relative_to
        shown = path if not path or base is None or is_remote(path) != is_remote(base) else os.path.relpath(path, base)
        return _valid_text(shown)

    def scored(self, path: str, prediction: Prediction, prepared: Prepared) -> ScoreRow:
        """Return the row of an image that was scored."""
        dos, scale = np.array(prediction.dos), self.scale
        tail = (1 - CENTRAL) / 2
        median, low, high = quantiles(dos, scale, (0.5, tail, 1 - tail))
        present = dos[dos > 0]  # 0 ln 0 is 0
        numbers = {
            "mos": prediction.mos,
            "mos_01": scale.normalised(prediction.mos),
            "sos": prediction.sos,
            **{f"p{k}": value for k, value in enumerate(prediction.dos, start=1)},
            "median": median,
            "entropy": 0.0 - (present * np.log(present)).sum(),  # no -0
            "low_90": low,
            "high_90": high,
            "gob": good_or_better(dos, scale),
            "pow": poor_or_worse(dos, scale),
        }
        if self.panel is not None:
            panel = panel_mean(dos, scale, self.panel)
            numbers |= {f"panel_{name}": value for name, value in vars(panel).items()}
        return self._row(
            path=self.name(path),
            **{name: round(float(value), DECIMALS) for name, value in numbers.items()},
            width=prepared.width,
            height=prepared.height,
            notes="; ".join(prepared.notes) or None,
        )

    def failed(self, path: str, error: str) -> ScoreRow:
        """Return the row of an image that could not be scored."""
        return self._row(path=self.name(path), error=_valid_text(error))

    def best_first(self, batches: Iterable[list[ScoreRow]]) -> Iterator[list[ScoreRow]]:
        """Yield all rows together, best first and with `rank` and `best`; images without scores follow."""
        rows = [row for batch in batches for row in batch]
        scored, failed = ([row for row in rows if (row["error"] is None) == kind] for kind in (True, False))
        bins = [f"p{k}" for k in range(1, self.scale.num_bins + 1)]
        ranked = ranking(
            [Prediction(row["mos"], row["sos"], tuple(row[name] for name in bins), self.scale) for row in scored]
        )
        for rank, image in enumerate(ranked, start=1):
            scored[image.index] |= {"rank": rank, "best": round(image.probability, DECIMALS)}
        yield [*(scored[image.index] for image in ranked), *failed]

    def _row(self, **values: Any) -> ScoreRow:
        values = {**self.run_fields, **values}
        return {name: values.get(name) for name in self.columns}


def quantiles(dos: Array, scale: RatingScale, shares: Sequence[float]) -> Array:
    """Return the scores below which the given shares of a DOS (K,) lie, within the ends of the scale.

    Opinions are spread evenly over their bin, as in the PIT in utils/metrics.py.
    """
    below = np.concatenate([[0.0], dos.cumsum()])  # (K + 1,)
    return np.clip(np.interp(np.array(shares) * below[-1], below, scale.edges), scale.low, scale.high)


def _valid_text(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")
