"""Scored images by hand, and the page of them as its reader has it."""

import re
from pathlib import Path

import numpy as np

from datasets.scale import RatingScale
from scoring.gallery.page import FailedImage, ScoredImage, write_gallery
from scoring.opinions import good_or_better, poor_or_worse
from scoring.records import quantiles
from scoring.scale_text import scale_text
from tests.experiments.results.reports import Page
from tests.scoring.scored import ACR


def image(name: str, dos, place="nowhere.png", scale: RatingScale = ACR, notes: str = "") -> ScoredImage:
    dos = np.array(dos, dtype=float)
    mos, sos = float(scale.mean(dos)), float(scale.std(dos))
    share = (mos - scale.low) / (scale.high - scale.low)
    low, high = quantiles(dos, scale, (0.05, 0.95))
    mos_01 = share if scale.higher_is_better else 1 - share
    shares = good_or_better(dos, scale), poor_or_worse(dos, scale)
    return ScoredImage(name, str(place), mos, mos_01, sos, float(low), float(high), *shares, tuple(dos), notes)


def random_images(count: int, place="nowhere.png", scale: RatingScale = ACR) -> list[ScoredImage]:
    shares = np.random.default_rng(0).dirichlet(np.ones(scale.num_bins), count)
    return [image(f"folder/{index:05d}.png", dos, place, scale) for index, dos in enumerate(shares)]


def page_of(path: Path, images: list[ScoredImage | FailedImage], scale: RatingScale = ACR) -> Page:
    """Writes the page and reads it; refuses one that would ask for anything outside itself."""
    write_gallery(path, images, {"scale": scale_text(scale), "preprocess": "release@40x32", "checkpoint": "0123abcd"})
    return read_page(path)


def read_page(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert not re.search(r"https?:|//\w|@import|\burl\(", page.source.partition("<body>")[0])
    assert all(re.match(r"data:|#", address) for address in page.addresses)
    assert {tag for tag, _ in page.tags}.isdisjoint({"iframe", "object", "embed", "audio", "video", "base"})
    policy = next(given["content"] for tag, given in page.tags if given.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(
        r"\b(nan|NaN|None|undefined)\b",
        re.sub(r'data:image[^"]*|<script>.*</script>', "", page.source, flags=re.DOTALL),
    )
    return page


def names_of(page: Page) -> list[str]:
    """File names of the cards, in their order."""
    return [text.strip() for text in re.findall(r'<p class="name"><span>(.*?)</span>', page.source)]
