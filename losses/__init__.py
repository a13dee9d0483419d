"""Loss terms and their weighted sum."""

from losses.joint import JointLoss

__all__ = ["JointLoss"]
