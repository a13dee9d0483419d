"""One measured comparison, and tables of them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Measured:
    """Ours and the peer, measured in turn.

    Args:
        name: Of the row.
        what: In words.
        peer_is: What the peer is, in words.
        unit: Of both medians; with a peer, less is better.
        ours: Every measurement.
        peers: Of the peer, each taken right after ours of the same place; empty where there is none.
    """

    name: str
    what: str
    peer_is: str
    unit: str
    ours: Sequence[float]
    peers: Sequence[float] = ()

    def as_row(self) -> dict:
        """Medians, `ratio` (peer / ours: how many times less ours takes) and `spread`: its least and its most."""
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
    """Measurements of both, one after the other, so that what the machine does besides falls on both."""
    pairs = [(ours(), peer()) for _ in range(runs)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def table_of(rows: Sequence[dict]) -> pd.DataFrame:
    """Rows as texts for a page."""
    lines = []
    for row in rows:
        low, high = row["spread"]
        against = row["ratio"] is not None
        lines.append(
            {
                "name": row["name"],
                "what": row["what"],
                "ours": f"{row['ours']:.3g} {row['unit']}",
                "peer": f"{row['peer']:.3g} {row['unit']} ({row['peer_is']})" if against else "",
                "peer / ours": f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})" if against else "",
                "runs": str(row["runs"]),
            }
        )
    return pd.DataFrame(lines)
