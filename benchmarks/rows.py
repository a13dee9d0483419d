"""Measured figures: comparisons with the peer and tables of them, and rows that are written one by one."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Measured:
    """Measurements of ours and of the peer, taken in turn.

    Args:
        name: Name of the row.
        what: Description of the measurement.
        peer_is: Description of the peer.
        unit: Unit of the measurements; with a peer, less is better.
        ours: Measurements of ours.
        peers: Measurements of the peer, each taken right after the one of ours; empty without a peer.
    """

    name: str
    what: str
    peer_is: str
    unit: str
    ours: Sequence[float]
    peers: Sequence[float] = ()

    def as_row(self) -> dict:
        """Return medians, `ratio` (peer / ours) and `spread`, the smallest and largest ratio."""
        ratios = [peer / ours for ours, peer in zip(self.ours, self.peers, strict=bool(self.peers))]
        return {
            "name": self.name,
            "what": self.what,
            "ours": statistics.median(self.ours),
            "peer": statistics.median(self.peers) if self.peers else None,
            "peer_is": self.peer_is,
            "unit": self.unit,
            "ratio": statistics.median(ratios) if ratios else None,
            "spread": [min(ratios), max(ratios)] if ratios else [min(self.ours), max(self.ours)],
            "runs": len(self.ours),
        }


def in_turn(ours: Callable[[], float], peer: Callable[[], float], runs: int) -> tuple[list[float], list[float]]:
    """Measure both alternately, so that other load on the machine affects both."""
    pairs = [(ours(), peer()) for _ in range(runs)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def table_of(rows: Sequence[dict]) -> pd.DataFrame:
    """Return the rows as a table of text."""
    lines = []
    for row in rows:
        low, high = row["spread"]
        has_peer = row["ratio"] is not None
        lines.append(
            {
                "name": row["name"],
                "what": row["what"],
                "ours": f"{row['ours']:.3g} {row['unit']}",
                "peer": f"{row['peer']:.3g} {row['unit']} ({row['peer_is']})" if has_peer else "",
                "peer / ours": f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})" if has_peer else "",
                "runs": str(row["runs"]),
            }
        )
    return pd.DataFrame(lines)


class Rows:
    """The rows of one part, in a JSON Lines file that is complete up to the last row whatever happens next.

    Args:
        path: The file, replaced if it exists.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def add(self, name: str, **values: Any) -> None:
        """Write one row and print it. Lists of numbers become their median and `<key>_spread`."""
        row: dict[str, Any] = {"name": name}
        for key, value in values.items():
            if isinstance(value, list):
                row[key] = statistics.median(value)
                row[f"{key}_spread"] = [min(value), max(value)]
            else:
                row[key] = value
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{name}: " + ", ".join(f"{key} {_short(value)}" for key, value in row.items() if key != "name"), flush=True
        )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"[{', '.join(map(_short, value))}]" if isinstance(value, list) else str(value)


def speed(milliseconds_per_batch: Sequence[float], batch: int, gflop: float, ceiling: float) -> dict[str, list[float]]:
    """Return `images_per_s`, and `of_ceiling`: the share in % of `ceiling` (TFLOP/s) at `gflop` for an image."""
    rates = [1000 * batch / taken for taken in milliseconds_per_batch]
    return {"images_per_s": rates, "of_ceiling": [rate * gflop / 10 / ceiling for rate in rates]}
