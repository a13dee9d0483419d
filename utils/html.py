"""Pages of HTML that need nothing beside them: how their templates are filled, and pictures as text within them.

`page.css` beside this file is the style that all of them begin with, `page.html.j2` holds the macros that they share.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

LONG_SIDE = 240  # pixels of a thumbnail
QUALITY = 75  # of its JPEG


@dataclass(frozen=True)
class Thumbnail:
    """A picture as the value of `src`, or a note that says why there is none."""

    source: str = ""
    width: int = 0
    height: int = 0
    note: str = ""


def page_environment(folder: Path) -> Environment:
    """Fills the templates of a folder, which may use `page.css` and `page.html.j2`; what is filled in is escaped."""
    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def thumbnail(image: Image.Image) -> Thumbnail:
    """A small JPEG of a picture in RGB, which is itself made smaller."""
    image.thumbnail((LONG_SIDE, LONG_SIDE), reducing_gap=2)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", *image.size)
