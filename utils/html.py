"""Pages of HTML that need nothing beside them: how their templates are filled, and pictures as text within them.

`page.css` beside this file is the style that all of them begin with.
"""

import base64
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image


def page_environment(folder: Path) -> Environment:
    """Fills the templates of a folder, which may include `page.css`; what is filled in is escaped."""
    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def jpeg_source(image: Image.Image, quality: int) -> str:
    """A picture as the value of `src`: a JPEG within the page."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
