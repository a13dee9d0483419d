"""The joint loss of MOS, SOS and DOS."""

from torch import Tensor, nn

from datasets.scale import RatingScale
from losses.terms import emd, hypothesis_sos, mos_error, sos_error
from utils.errors import UserError

SOS_TARGETS = ("hypothesis", "label")


class JointLoss(nn.Module):
    """Weighted sum of the DOS, MOS and SOS terms; without further arguments, the release's.

    Args:
        scale: Rating scale of the labels.
        sos_a: Parameter of the SOS hypothesis, in (0, 1]; 0.09 on KonIQ-10k.
        dos: Weight of the EMD between distributions.
        mos: Weight of the absolute error of the MOS.
        sos: Weight of the squared error of the SOS.
        sos_target: `hypothesis` pulls the predicted SOS onto the SOS-hypothesis curve at the predicted MOS, with
            gradient through both, and never sees the SOS label (the release); `label` uses the SOS label.

    Raises:
        UserError: A weight below 0, an `sos_a` outside (0, 1] or an unknown `sos_target`.
    """

    def __init__(
        self,
        scale: RatingScale,
        sos_a: float = 0.09,
        dos: float = 100.0,
        mos: float = 5.0,
        sos: float = 0.5,
        sos_target: str = "hypothesis",
    ):
        super().__init__()
        if sos_target not in SOS_TARGETS:
            raise UserError(f"loss.sos_target: {sos_target!r} is unknown; allowed: {', '.join(SOS_TARGETS)}")
        if not 0 < sos_a <= 1:
            raise UserError(f"loss.sos_a: must be above 0 and at most 1, got {sos_a}")
        self.weights = {"dos": dos, "mos": mos, "sos": sos}
        if min(self.weights.values()) < 0:
            raise UserError(f"loss: weights must not be negative, got {self.weights}")
        self.scale = scale
        self.sos_a = sos_a
        self.sos_target = sos_target

    def forward(self, dos: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of predicted distributions.

        Args:
            dos: Predicted DOS, (B, K).
            target: `dos` (B, K), `mos` (B,) and `sos` (B,), the latter two in units of the scale.

        Returns:
            Scalars `total` (weighted) and `dos`, `mos`, `sos` (unweighted).
        """
        pred_mos, pred_sos = self.scale.mean(dos), self.scale.std(dos)  # (B,), (B,)
        if self.sos_target == "label":
            target_sos = target["sos"]
        else:
            target_sos = hypothesis_sos(pred_mos, self.scale.low, self.scale.high, self.sos_a)
        terms = {
            "dos": emd(dos, target["dos"]),
            "mos": mos_error(pred_mos, target["mos"]),
            "sos": sos_error(pred_sos, target_sos),
        }
        # a term that weighs nothing must not reach the gradient, not even as 0 * NaN
        total = sum(weight * terms[name] for name, weight in self.weights.items() if weight)
        return {"total": total, **terms}
