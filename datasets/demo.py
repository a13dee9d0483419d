"""Demo database: synthetic dead-leaves scenes with distortions and simulated votes, in the format of KonIQ-10k.

It tries the project out without a download; scores learned on it are meaningless for photographs.

Source: Lee, Mumford, Huang, Occlusion models for natural images, IJCV 2001 (dead leaves: occluding shapes whose sizes
follow a power law have the statistics of natural images).
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from utils.files import draft_of, remove_drafts

IMAGE_FOLDER = "images"
SIZE = (112, 84)  # width, height
SUPERSAMPLING = 2  # scenes are drawn larger and reduced, for smooth edges
SCENES = 60

LEAVES = 350
LEAF_RADII = (4.0, 48.0)  # pixels of the finished image; their density falls with the cube of the radius
TINT = 0.04  # standard deviation of the colour channels about grey, of 1

BLUR_SIGMA = (1.0, 1.8, 3.0, 4.5, 7.0)  # pixels
NOISE_STD = (0.06, 0.12, 0.20, 0.30, 0.45)  # of 1
BLOCK_SIZE = (3, 5, 7, 10, 14)  # pixels
IMPULSE_SHARE = (0.02, 0.05, 0.12, 0.22, 0.40)  # of the pixels

VOTERS = 40
CLEAN_QUALITY = 4.6  # on 1..5
QUALITY_LOSS = 0.7  # a level
SCENE_STD = 0.1  # some scenes please more than others
BIAS_STD = 0.35  # some people are strict
VOTE_STD = 0.5  # nobody is consistent

Array = np.ndarray


def write_demo(root: str | Path, seed: int = 0, scenes: int = SCENES) -> None:
    """Write `images/*.png` and the votes file of KonIQ-10k to root; a failed run leaves nothing behind.

    Each scene comes in a clean version and in five levels of each of four distortions; `scene_07_blur_3.png` is the
    third level of blur. The same seed gives the same pixels and votes.
    """
    root = Path(root)
    unfinished = draft_of(root)
    remove_drafts(root)
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / IMAGE_FOLDER).mkdir(parents=True)
    try:
        names, quality = [], []
        for scene in range(scenes):
            rng = np.random.default_rng([seed, scene])
            clean = draw_scene(rng)
            pleasing = rng.normal(CLEAN_QUALITY, SCENE_STD)
            for family, level, image in _versions(clean, rng):
                names.append(f"scene_{scene:02d}_{family}_{level}.png" if level else f"scene_{scene:02d}_{family}.png")
                quality.append(pleasing - QUALITY_LOSS * level)
                Image.fromarray(image).save(unfinished / IMAGE_FOLDER / names[-1])
        votes = simulate_votes(np.array(quality), np.random.default_rng([seed, scenes]))
        votes_table(names, votes).to_csv(unfinished / "koniq10k_scores_and_distributions.csv", index=False)
        unfinished.replace(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def scene_name(image: str) -> str:
    """Return the scene of a demo image: `images/scene_07_blur_3.png` -> `scene_07`."""
    return "_".join(Path(image).stem.split("_")[:2])


def draw_scene(rng: np.random.Generator) -> Array:
    """Return a nearly grey dead-leaves image of overlapping ellipses and boxes, (H, W, 3), uint8."""
    width, height = (SUPERSAMPLING * side for side in SIZE)
    canvas = Image.new("RGB", (width, height), (128, 128, 128))
    painter = ImageDraw.Draw(canvas)
    smallest, largest = (SUPERSAMPLING * radius for radius in LEAF_RADII)
    share = rng.random(LEAVES)
    radii = (smallest**-2 - share * (smallest**-2 - largest**-2)) ** -0.5  # inverse of the power law's distribution
    for radius in np.concatenate([[largest] * 12, radii]):  # large ones first, to cover the whole canvas
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        grey = rng.uniform(0.05, 0.95)
        colour = tuple((255 * np.clip(grey + rng.normal(0, TINT, 3), 0, 1)).astype(int).tolist())
        painter.polygon(_leaf(rng, x, y, radius), fill=colour)
    return np.asarray(canvas.resize(SIZE, Image.Resampling.BOX))


def simulate_votes(quality: Array, rng: np.random.Generator) -> Array:
    """Return votes 1..5 (N, VOTERS) of a panel with individual bias and noise, for images of true quality (N,)."""
    bias = rng.normal(0, BIAS_STD, VOTERS)
    noise = rng.normal(0, VOTE_STD, (len(quality), VOTERS))
    return np.clip(np.rint(quality[:, None] + bias + noise), 1, 5).astype(int)


def votes_table(names: list[str], votes: Array) -> pd.DataFrame:
    """Return the official table of KonIQ-10k: counts, MOS, SD (ddof 1), and MOS of the voters' z-scores on 0..100."""
    counts = np.stack([(votes == score).sum(1) for score in range(1, 6)], axis=1)  # (N, 5)
    table = pd.DataFrame({"image_name": names})
    table[[f"c{score}" for score in range(1, 6)]] = counts
    table["c_total"] = counts.sum(1)
    table["MOS"] = votes.mean(1)
    table["SD"] = votes.std(1, ddof=1)
    z = (votes - votes.mean(0)) / votes.std(0, ddof=1)
    table["MOS_zscore"] = 100 * (z.mean(1) + 3) / 6
    return table.round(9)


def blur(image: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Blur an image with a Gaussian of `sigma` pixels."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noise(image: Array, std: float, rng: np.random.Generator) -> Array:
    """Add Gaussian noise, the same in all channels; `std` is a fraction of the range."""
    noisy = image + 255 * rng.normal(0, std, (*image.shape[:2], 1))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def pixelate(image: Array, block: int, rng: np.random.Generator) -> Array:
    """Replace each block of `block` x `block` pixels by its mean colour."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((-(-width // block), -(-height // block)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))


def impulse(image: Array, share: float, rng: np.random.Generator) -> Array:
    """Add salt-and-pepper noise: a `share` of the pixels becomes black or white."""
    hit = rng.random((*image.shape[:2], 1))
    return np.where(hit < share / 2, 0, np.where(hit < share, 255, image)).astype(np.uint8)


DISTORTIONS: dict[str, tuple[Callable[[Array, float, np.random.Generator], Array], tuple[float, ...]]] = {
    "blur": (blur, BLUR_SIGMA),
    "noise": (noise, NOISE_STD),
    "pixels": (pixelate, BLOCK_SIZE),
    "impulse": (impulse, IMPULSE_SHARE),
}


def _versions(clean: Array, rng: np.random.Generator):
    """Yield (distortion, level, image): the clean scene at level 0, then every distortion at every level."""
    yield "clean", 0, clean
    for family, (distort, strengths) in DISTORTIONS.items():
        for level, strength in enumerate(strengths, start=1):
            yield family, level, distort(clean, strength, rng)


def _leaf(rng: np.random.Generator, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Return the corners of a rotated ellipse or box."""
    sides = 4 if rng.random() < 0.4 else 24
    angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    stretch, turn = rng.uniform(0.5, 1.0), rng.uniform(0, np.pi)
    across, along = radius * np.cos(angles), radius * stretch * np.sin(angles)
    xs = x + across * np.cos(turn) - along * np.sin(turn)
    ys = y + across * np.sin(turn) + along * np.cos(turn)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))
