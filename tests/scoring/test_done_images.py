"""Which images are done, against counting their names."""

import pickle
from collections import Counter

import numpy as np
import pytest

from scoring.done_images import HASH_BYTES, DoneImages, name_hash


def done_images(names):
    return DoneImages(b"".join(map(name_hash, names)))


@pytest.mark.parametrize("seed", range(20))
def test_unscored_is_what_counting_names_leaves(seed):
    rng = np.random.default_rng(seed)
    pool = [f"photos/{'ü' * number}.png" for number in range(rng.integers(1, 30))]
    rows, names = (rng.choice(pool, rng.integers(0, 40)).tolist() for _ in range(2))
    available, expected = Counter(rows), []
    for image, name in enumerate(names):
        available[name] -= 1
        if available[name] < 0:
            expected.append(image)
    done = pickle.loads(pickle.dumps(done_images(rows)))
    assert done.unscored(range(len(names)), names) == expected
    assert [name in done for name in pool] == [name in rows for name in pool]
    assert len(done) == len(rows)


def test_hashes_that_end_in_zeros_are_told_apart():
    hashes = [bytes([number] * size + [0] * (HASH_BYTES - size)) for number in (1, 2) for size in (1, 15)]
    done = DoneImages(b"".join(hashes))
    assert done._rows(np.frombuffer(b"".join(hashes), done.hashes.dtype)).tolist() == [1, 1, 1, 1]


def test_nothing_is_done_yet():
    done = DoneImages()
    assert len(done) == 0
    assert "a.png" not in done
    assert done.unscored(["b", "a"], ["b.png", "a.png"]) == ["b", "a"]
    assert done.unscored([], []) == []
