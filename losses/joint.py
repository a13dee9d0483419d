"""The joint loss of MOS, SOS and DOS.

B batch, K bins, D databases that are trained on together.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from datasets.scale import RatingScale, mean_on, std_on
from losses.terms import emd, hypothesis_sos, mos_error, sos_error
from utils.errors import UserError
from utils.numerics import constant

SOS_TARGETS = ("hypothesis", "label")
UNITS = ("native", "acr")
ACR_WIDTH = 4.0  # of the scale 1..5, on which the release's weights were chosen


class JointLoss(nn.Module):
    """Weighted sum of the DOS, MOS and SOS terms; without further arguments, the release's.

    Args:
        scale: Rating scale of the labels; or those of D databases, whose bins then go from worst to best.
        sos_a: Parameter of the SOS hypothesis, in (0, 1]; 0.09 on KonIQ-10k. One for all, or one for each database.
        dos: Weight of the EMD between distributions.
        mos: Weight of the absolute error of the MOS.
        sos: Weight of the squared error of the SOS.
        sos_target: `hypothesis` pulls the predicted SOS onto the SOS-hypothesis curve at the predicted MOS, with
            gradient through both, and never sees the SOS label (the release); `label` uses the SOS label.
        units: `native` measures MOS and SOS in units of the scale (the release); `acr` as if it were as wide as 1..5.
        database_weights: Factor of the images of each database, above 0.

    Raises:
        UserError: A weight below 0, an `sos_a` outside (0, 1], an unknown `sos_target` or `units`, or another number of
            values than of databases.
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
    ):
        super().__init__()
        several = not isinstance(scale, RatingScale)
        scales = tuple(scale) if several else (scale,)
        if sos_target not in SOS_TARGETS:
            raise UserError(f"loss.sos_target: {sos_target!r} is unknown; allowed: {', '.join(SOS_TARGETS)}")
        if units not in UNITS:
            raise UserError(f"loss.units: {units!r} is unknown; allowed: {', '.join(UNITS)}")
        self.sos_a = tuple(sos_a) if isinstance(sos_a, Sequence) else (sos_a,) * len(scales)
        self.database_weights = tuple(database_weights or (1.0,) * len(scales))
        if not len(scales) == len(self.sos_a) == len(self.database_weights):
            raise UserError(f"loss: one sos_a and one weight for each of the {len(scales)} databases, please")
        if not all(0 < a <= 1 for a in self.sos_a):
            raise UserError(f"loss.sos_a: must be above 0 and at most 1, got {sos_a}")
        self.weights = {"dos": dos, "mos": mos, "sos": sos}
        if min(self.weights.values()) < 0:
            raise UserError(f"loss: weights must not be negative, got {self.weights}")
        if min(self.database_weights) <= 0:
            raise UserError(f"loss: weights of databases must be above 0, got {list(self.database_weights)}")
        if len({scale.num_bins for scale in scales}) > 1:
            raise UserError(f"loss: databases must have the same number of bins, got {[s.num_bins for s in scales]}")
        self.sos_target = sos_target
        self.several = several
        self.centers = tuple(scale.centers_from_worst if several else scale.bin_centers for scale in scales)
        self.ends = tuple((scale.low, scale.high) for scale in scales)
        self.unit = tuple(ACR_WIDTH / (high - low) if units == "acr" else 1.0 for low, high in self.ends)

    def forward(self, dos: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of predicted distributions.

        Args:
            dos: Predicted DOS, (B, K).
            target: `dos` (B, K), `mos` (B,) and `sos` (B,), the latter two in units of the scale; with several
                databases also `database` (B,) of int64, which one each image is from.

        Returns:
            Scalars `total` (weighted) and `dos`, `mos`, `sos` (not weighted but for the databases and units).
        """

        def of_image(values: tuple) -> Tensor:  # (B, ...) of several databases, else (1, ...)
            table = constant(values, dos.dtype, dos.device)
            return table[target["database"]] if self.several else table

        centers, unit, weight = of_image(self.centers), of_image(self.unit), of_image(self.database_weights)
        pred_mos, pred_sos = mean_on(dos, centers), std_on(dos, centers)  # (B,), (B,)
        if self.sos_target == "label":
            target_sos = target["sos"]
        else:
            low, high = of_image(self.ends).unbind(-1)  # (B,), (B,)
            target_sos = hypothesis_sos(pred_mos, low, high, of_image(self.sos_a))
        terms = {
            "dos": emd(dos, target["dos"], weight),
            "mos": mos_error(pred_mos, target["mos"], weight * unit),
            "sos": sos_error(pred_sos, target_sos, weight * unit**2),
        }
        # a term that weighs nothing must not reach the gradient, not even as 0 * NaN
        total = sum(factor * terms[name] for name, factor in self.weights.items() if factor)
        return {"total": total, **terms}
