"""The joint loss of MOS, SOS and DOS.

B batch, K bins, D databases trained on together.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from datasets.dataset import damaged_rows
from datasets.scale import RatingScale, mean_on, std_on
from losses.terms import emd, hypothesis_sos, mos_error, rank_error, sos_error
from utils.config import validated
from utils.errors import UserError
from utils.numerics import constant
from utils.settings import LossSettings

ACR_WIDTH = 4.0  # of the scale 1..5, for which the release's weights were chosen


class JointLoss(nn.Module):
    """Weighted sum of the DOS, MOS and SOS terms; the defaults are the release's.

    Args:
        scale: Rating scale of the labels, with bins from the lowest score to the highest; or the scales of D databases,
            with bins from worst to best.
        sos_a: Parameter of the SOS hypothesis, in (0, 1]; 0.09 on KonIQ-10k. One for all databases, or one for each.
        dos: Weight of the EMD between distributions.
        mos: Weight of the absolute error of the MOS.
        sos: Weight of the squared error of the SOS.
        sos_target: `hypothesis` compares the predicted SOS with the SOS hypothesis at the predicted MOS, with gradient
            through both, and ignores the SOS label (the release); `label` compares it with the SOS label.
        units: `native` measures MOS and SOS in units of the scale (the release); `acr` as if every scale were as wide
            as 1..5.
        database_weights: Factor of the images of each database, above 0.
        rank: Weight of the ranking of damaged images, see `losses.terms.rank_error`.
        best_last: Whether the last bin is the best one; for `rank`.

    Raises:
        UserError: A value that `LossSettings` does not allow, numbers of values and databases that differ, or databases
            with different numbers of bins.
    """

    def __init__(
        self,
        scale: RatingScale | Sequence[RatingScale],
        sos_a: float | Sequence[float] = 0.09,
        dos: float = 100.0,
        mos: float = 5.0,
        sos: float = 0.5,
        sos_target: str = "hypothesis",
        units: str = "native",
        database_weights: Sequence[float] | None = None,
        rank: float = 0.0,
        best_last: bool = True,
    ):
        super().__init__()
        options = {"sos_a": sos_a, "sos_target": sos_target, "units": units}
        validated(LossSettings, {"dos": dos, "mos": mos, "sos": sos, "rank": rank, **options}, "JointLoss")
        scales = (replace(scale, higher_is_better=True),) if isinstance(scale, RatingScale) else tuple(scale)
        self.sos_a = tuple(sos_a) if isinstance(sos_a, Sequence) else (sos_a,) * len(scales)
        self.database_weights = tuple(database_weights or (1.0,) * len(scales))
        if not len(scales) == len(self.sos_a) == len(self.database_weights):
            raise UserError(f"loss: sos_a and database_weights need one value for each of the {len(scales)} databases")
        if len({scale.num_bins for scale in scales}) > 1:
            raise UserError(f"loss: databases must have the same number of bins, got {[s.num_bins for s in scales]}")
        self.weights = {"dos": dos, "mos": mos, "sos": sos} | ({"rank": rank} if rank else {})
        self.sos_target = sos_target
        self.ends_of_quality = (0, 1) if best_last else (1, 0)
        self.centers = tuple(s.bin_centers if s.higher_is_better else s.bin_centers[::-1] for s in scales)
        self.ends = tuple((scale.low, scale.high) for scale in scales)
        self.unit = tuple(ACR_WIDTH / (high - low) if units == "acr" else 1.0 for low, high in self.ends)

    def forward(self, dos: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of predicted distributions.

        Args:
            dos: Predicted DOS (B, K); with `rank`, (B + 2R, K): then come those of R images, the `damaged_rows` of
                the batch, each with the weaker and the stronger damage.
            target: Labels `dos` (B, K), `mos` (B,) and `sos` (B,) in units of the scale, and `database` (B,), int64,
                the index of each image's database; not needed if D is 1. With `rank`, `strengths` (R, 2) of the
                damage.

        Returns:
            Scalars: `total`, weighted; `dos`, `mos`, `sos` and, if it has a weight, `rank`, before their weights, with
            database weights and units applied.
        """
        dos, damaged = dos.tensor_split([len(target["mos"])])

        def per_image(values: tuple) -> Tensor:  # (B, ...); (1, ...) if D is 1, without a gather
            table = constant(values, dos.dtype, dos.device)  # (D, ...)
            return table if len(values) == 1 else table[target["database"]]

        centers, unit, weight = per_image(self.centers), per_image(self.unit), per_image(self.database_weights)
        pred_mos, pred_sos = mean_on(dos, centers), std_on(dos, centers)  # (B,), (B,)
        if self.sos_target == "label":
            target_sos = target["sos"]
        else:
            low, high = per_image(self.ends).unbind(-1)  # (B,), (B,)
            target_sos = hypothesis_sos(pred_mos, low, high, per_image(self.sos_a))
        terms = {
            "dos": emd(dos, target["dos"], weight),
            "mos": mos_error(pred_mos, target["mos"], weight * unit),
            "sos": sos_error(pred_sos, target_sos, weight * unit**2),
        }
        if "rank" in self.weights:
            rows = constant(tuple(damaged_rows(len(dos), len(target["strengths"]))), torch.int64, dos.device)
            terms["rank"] = rank_error(
                self._quality(dos[rows]),
                self._quality(damaged).unflatten(0, (-1, 2)),
                target["strengths"],
                (weight * self._quality(target["dos"]))[rows],
            )
        # a term of weight 0 is left out, since 0 * NaN is NaN
        total = sum(factor * terms[name] for name, factor in self.weights.items() if factor)
        return {"total": total, **terms}

    def _quality(self, dos: Tensor) -> Tensor:
        """Return the mean (B,) of distributions (B, K) over bins from 0, the worst, to 1, the best."""
        return mean_on(dos, torch.linspace(*self.ends_of_quality, dos.shape[1], dtype=dos.dtype, device=dos.device))
