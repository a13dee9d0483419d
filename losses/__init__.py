"""Loss terms and their weighted sum."""

from losses.building import build_loss
from losses.joint import JointLoss

__all__ = ["JointLoss", "build_loss"]
