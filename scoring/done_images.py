"""Which images have rows in an output already, for --resume: a few bytes for each row, however long the names are.

N images, R rows.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

HASH_BYTES = 16  # two of a billion names share one with a probability of 1e-21


def name_hash(name: str) -> bytes:
    """Return the hash by which `DoneImages` knows the name of an image."""
    return hashlib.blake2b(name.encode(), digest_size=HASH_BYTES).digest()


class DoneImages:
    """The names of the images in the rows of an output, of which an image may have several.

    Args:
        hashes: That of the name in each row, one behind the other.
    """

    def __init__(self, hashes: bytes = b""):
        self.hashes = np.sort(np.frombuffer(hashes, f"S{HASH_BYTES}"))  # (R,)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.hashes)

    def __contains__(self, name: str) -> bool:
        """Return whether an image has a row."""
        return bool(self._rows(np.frombuffer(name_hash(name), self.hashes.dtype))[0])

    def unscored(self, images: Sequence[str], names: Iterable[str]) -> list[str]:
        """Return the images that have no row; one that is given twice needs two.

        Args:
            images: Paths.
            names: The name of each image as rows show it.
        """
        hashes = np.frombuffer(b"".join(map(name_hash, names)), self.hashes.dtype)  # (N,)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        repetition = np.arange(len(hashes)) - np.searchsorted(hashes, hashes)  # 0 where a name is given first
        remaining = order[repetition >= self._rows(hashes)]
        return [images[index] for index in np.sort(remaining).tolist()]

    def _rows(self, hashes: np.ndarray) -> np.ndarray:
        """Return the number of rows of each image (N,)."""
        return np.searchsorted(self.hashes, hashes, "right") - np.searchsorted(self.hashes, hashes, "left")
