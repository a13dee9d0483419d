"""Maximum-entropy distributions with a given mean and variance on the bins of a rating scale.

N images, K bins. p_k ~ exp(t1 x_k + t2 x_k^2), x_k the bin centres moved to -1..1.
"""

import numpy as np

from datasets.scale import RatingScale

MAX_STEPS = 200
MOMENT_TOLERANCE = 1e-12  # on mean and mean square, on -1..1
EDGE = 1e-9  # distance to the feasible edge below which the edge solution is used; it is off by this mass at most
ROUNDING = 1e-12  # tolerance on mean and variance outside the feasible range

Array = np.ndarray


def dos_max_entropy(mos: Array, sos: Array, scale: RatingScale) -> tuple[Array, Array]:
    """Return the flattest distributions whose mean and standard deviation are exactly MOS and SOS.

    Some pairs are not feasible: the MOS lies outside the outer centres, or the SOS is too large, or smaller than the
    nearest two bins allow. They are replaced: first the MOS moves to the nearest centre, then the SOS to the nearest
    feasible value.

    Args:
        mos: MOS (N,), in units of the scale.
        sos: SOS (N,), in units of the scale.
        scale: Rating scale.

    Returns:
        Distributions (N, K), and which rows were replaced (N,), bool.
    """
    centers = np.array(scale.bin_centers)
    middle, half = (centers[0] + centers[-1]) / 2, (centers[-1] - centers[0]) / 2
    nodes = (centers - middle) / half  # (K,), -1..1
    wanted_mean = (np.asarray(mos, dtype=np.float64) - middle) / half  # (N,)
    wanted_variance = (np.asarray(sos, dtype=np.float64) / half) ** 2
    mean = wanted_mean.clip(-1, 1)
    left = np.searchsorted(nodes, mean, side="right").clip(1, len(nodes) - 1) - 1  # (N,) index of the bin at or below
    least = (mean - nodes[left]) * (nodes[left + 1] - mean)  # variance on the two nearest bins
    most = (mean + 1) * (1 - mean)  # variance on the two outer bins
    variance = wanted_variance.clip(least, most)
    replaced = (np.abs(mean - wanted_mean) > ROUNDING) | (np.abs(variance - wanted_variance) > ROUNDING)

    edge = (variance >= most - EDGE) | (variance <= least + EDGE)
    dos = _between_edges(mean, variance, least, most, left, nodes)
    dos[~edge] = _solve(mean[~edge], (variance + mean**2)[~edge], nodes)
    return dos, replaced


def _between_edges(mean: Array, variance: Array, least: Array, most: Array, left: Array, nodes: Array) -> Array:
    """Mix the narrowest and the widest distribution with the mean to reach the variance; exact at both edges."""
    narrowest = _two_points(mean, nodes, left, left + 1)
    widest = _two_points(mean, nodes, np.zeros_like(left), np.full_like(left, len(nodes) - 1))
    span = most - least
    share = np.divide(variance - least, span, out=np.zeros_like(span), where=span > 0).clip(0, 1)[:, None]
    return (1 - share) * narrowest + share * widest


def _two_points(mean: Array, nodes: Array, low: Array, high: Array) -> Array:
    """Return distributions with all mass on two bins and the given mean."""
    dos = np.zeros((len(mean), len(nodes)))
    share = ((mean - nodes[low]) / (nodes[high] - nodes[low])).clip(0, 1)
    rows = np.arange(len(mean))
    dos[rows, high] = share
    dos[rows, low] = 1 - share
    return dos


def _solve(mean: Array, square: Array, nodes: Array) -> Array:
    """Minimise the convex dual log Z(t) - t1 E[x] - t2 E[x^2] by Newton's method with step halving."""
    powers = np.stack([nodes, nodes**2])  # (2, K)
    target = np.stack([mean, square], axis=1)  # (N, 2)
    t = np.zeros_like(target)  # (N, 2)
    for _ in range(MAX_STEPS):
        dos, value = _dual(t, target, powers)
        gap = target - dos @ powers.T  # (N, 2), the negative gradient
        active = np.abs(gap).max(axis=1, initial=0) > MOMENT_TOLERANCE
        if not active.any():
            break
        step = _newton_step(dos[active], gap[active], powers)
        t[active] = _descend(t[active], step, gap[active], value[active], target[active], powers)
    return _dual(t, target, powers)[0]


def _newton_step(dos: Array, gap: Array, powers: Array) -> Array:
    centred = powers[None] - (dos @ powers.T)[:, :, None]  # (N, 2, K)
    hessian = np.einsum("nik,njk,nk->nij", centred, centred, dos)  # (N, 2, 2), the covariance of x and x^2
    ridge = 1e-14 * np.trace(hessian, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    return np.linalg.solve(hessian + ridge, gap[:, :, None])[:, :, 0]


def _descend(t: Array, step: Array, gap: Array, value: Array, target: Array, powers: Array) -> Array:
    """Return t + length * step, with the length halved per row until the dual falls (Armijo)."""
    length = np.ones(len(t))
    slope = (gap * step).sum(axis=1)
    for _ in range(60):
        trial = _dual(t + length[:, None] * step, target, powers)[1]
        short = trial > value - 1e-4 * length * slope + 1e-15 * np.abs(value)
        if not short.any():
            break
        length[short] /= 2
    return t + length[:, None] * step


def _dual(t: Array, target: Array, powers: Array) -> tuple[Array, Array]:
    """Return distributions (N, K) and dual values (N,) at t (N, 2)."""
    logits = t @ powers  # (N, K)
    top = logits.max(axis=1, keepdims=True)
    weights = np.exp(logits - top)
    total = weights.sum(axis=1, keepdims=True)
    return weights / total, (np.log(total) + top)[:, 0] - (t * target).sum(axis=1)
