"""Self-contained HTML pages: the environment of their templates, and embedded thumbnails.

`page.css` is the style of all pages, `page.html.j2` contains their shared macros.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

LONG_SIDE = 240  # of a thumbnail, in pixels
QUALITY = 75  # JPEG quality


@dataclass(frozen=True)
class Thumbnail:
    """An image as the value of `src`, or a note that says why there is none."""

    source: str = ""
    width: int = 0
    height: int = 0
    note: str = ""


def page_environment(folder: Path) -> Environment:
    """Return the environment of the templates in a folder, with `page.css`, `page.html.j2` and escaping."""
    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def thumbnail(image: Image.Image, side: int = LONG_SIDE) -> Thumbnail:
    """Return a small JPEG of an RGB image, at most `side` pixels long; the image itself is resized."""
    image.thumbnail((side, side), reducing_gap=2)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", *image.size)
