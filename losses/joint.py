"""The joint loss of MOS, SOS and DOS.

B batch, K bins, D databases that are trained on together.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from datasets.scale import RatingScale, mean_on, std_on
from losses.terms import emd, hypothesis_sos, mos_error, sos_error
from utils.config import validated
from utils.errors import UserError
from utils.numerics import constant
from utils.settings import LossSettings

ACR_WIDTH = 4.0  # of the scale 1..5, on which the release's weights were chosen


class JointLoss(nn.Module):
    """Weighted sum of the DOS, MOS and SOS terms; without further arguments, the release's.

    Args:
        scale: Rating scale of the labels, bins from the lowest score to the highest; or those of D databases, whose
            bins then go from worst to best.
        sos_a: Parameter of the SOS hypothesis, in (0, 1]; 0.09 on KonIQ-10k. One for all, or one for each database.
        dos: Weight of the EMD between distributions.
        mos: Weight of the absolute error of the MOS.
        sos: Weight of the squared error of the SOS.
        sos_target: `hypothesis` pulls the predicted SOS onto the SOS-hypothesis curve at the predicted MOS, with
            gradient through both, and never sees the SOS label (the release); `label` uses the SOS label.
        units: `native` measures MOS and SOS in units of the scale (the release); `acr` as if it were as wide as 1..5.
        database_weights: Factor of the images of each database, above 0.

    Raises:
        UserError: A value that `LossSettings` does not allow, another number of values than of databases, or
            databases with different numbers of bins.
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
        options = {"dos": dos, "mos": mos, "sos": sos, "sos_a": sos_a, "sos_target": sos_target, "units": units}
        validated(LossSettings, options, "JointLoss")
        scales = (replace(scale, higher_is_better=True),) if isinstance(scale, RatingScale) else tuple(scale)
        self.sos_a = tuple(sos_a) if isinstance(sos_a, Sequence) else (sos_a,) * len(scales)
        self.database_weights = tuple(database_weights or (1.0,) * len(scales))
        if not len(scales) == len(self.sos_a) == len(self.database_weights):
            raise UserError(f"loss: give one sos_a and one weight for each of the {len(scales)} databases")
        if len({scale.num_bins for scale in scales}) > 1:
            raise UserError(f"loss: databases must have the same number of bins, got {[s.num_bins for s in scales]}")
        self.weights = {"dos": dos, "mos": mos, "sos": sos}
        self.sos_target = sos_target
        self.centers = tuple(s.bin_centers if s.higher_is_better else s.bin_centers[::-1] for s in scales)
        self.ends = tuple((scale.low, scale.high) for scale in scales)
        self.unit = tuple(ACR_WIDTH / (high - low) if units == "acr" else 1.0 for low, high in self.ends)

    def forward(self, dos: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of predicted distributions.

        Args:
            dos: Predicted DOS, (B, K).
            target: `dos` (B, K), `mos` (B,) and `sos` (B,), the latter two in units of the scale, and `database` (B,)
                of int64, which one each image is from; not read where D is 1.

        Returns:
            Scalars `total` (weighted) and `dos`, `mos`, `sos` (not weighted but for the databases and units).
        """

        def per_image(values: tuple) -> Tensor:  # (B, ...); (1, ...) where D is 1, which spares the gather
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
        # a term that weighs nothing must not reach the gradient, not even as 0 * NaN
        total = sum(factor * terms[name] for name, factor in self.weights.items() if factor)
        return {"total": total, **terms}
