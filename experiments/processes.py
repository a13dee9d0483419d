"""What torchrun may start: one training over several processes."""

import argparse
from collections.abc import Sequence

from experiments.parallel import KEY
from utils.distributed import several, world
from utils.errors import UserError
from utils.settings import Config


def require_processes(configs: Sequence[Config], args: argparse.Namespace) -> None:
    """Refuses what cannot be done by the processes there are, before anything is written.

    Raises:
        UserError: Says what to change.
    """
    if not several():
        return
    if args.evaluate:
        raise UserError(
            f"--evaluate runs in one process, and torchrun has started {world()}; start it with python alone"
        )
    for config in configs:
        _require_shares(config.run.name, config.train.batch_size, config.train.accumulate)
        at_a_time = config.protocol.parallel_splits
        if at_a_time > 1 and args.split is None:
            raise UserError(
                f"{KEY}: {at_a_time} splits at a time are processes of their own, and torchrun has started {world()} "
                f"for one training; set {KEY}=1, or start it with python alone"
            )
        if any(member.cache == "ram" for member in config.members):
            raise UserError(f"dataset.cache: each of {world()} processes would hold a copy; use disk, or none")


def _require_shares(name: str, batch_size: int, accumulate: int) -> None:
    unit = world() * accumulate
    if batch_size % unit:
        parts = f", in {accumulate} parts each (train.accumulate)" if accumulate > 1 else ""
        near = max(unit, round(batch_size / unit) * unit)
        raise UserError(
            f"{name}: train.batch_size: {batch_size} images, the batch of all processes together, cannot be shared "
            f"equally by {world()} of them{parts}; set it to a multiple of {unit}, such as {near}, or start fewer"
        )
