"""Quality maps: for each scored image, a drawing of the areas that raise and lower its MOS."""

import hashlib
import re
from functools import partial
from pathlib import Path

import torch

from models.attribution import contributions, mos_map
from scoring.overlay import draw_overlay
from scoring.predictor import SMALLER_BATCH, Prediction, Predictor, Prepared
from scoring.records import RowBuilder
from utils.files import make_folder, write_atomically
from utils.memory import enough_memory

SIDE = 1200  # long side of the drawn picture in pixels
DIGITS = 8  # hash digits that distinguish images with the same name
CAPTION = (
    "First-order contributions by position in the network's feature maps. A position depends on more of the image than "
    "its own area: the map shows where the network encodes what it uses, not which pixels are to blame."
)


class MapWriter:
    """Write a quality map of each scored image to a folder.

    Raises:
        UserError: The folder cannot be created.
    """

    def __init__(self, folder: str, predictor: Predictor, row_builder: RowBuilder):
        make_folder(folder)
        self.folder = Path(folder)
        self.predictor = predictor
        self.row_builder = row_builder
        predictor.preview_side = SIDE

    @torch.inference_mode()
    def __call__(self, path: str, prediction: Prediction, prepared: Prepared) -> None:
        scale, preview, name = self.predictor.scale, prepared.preview, self.row_builder.name(path)
        with enough_memory(SMALLER_BATCH):
            view = prepared.views[:1].to(self.predictor.device)  # (1, 3, H, W)
            split_logits = contributions(self.predictor.model, view)
            values = mos_map(split_logits, scale.bin_centers, tuple(view.shape[2:]))[0].cpu().numpy()  # (H, W)
        left, top, right, bottom = self.predictor.preprocess.box
        box = (left * preview.width, top * preview.height, right * preview.width, bottom * preview.height)
        title = f"{Path(name).name}: MOS {prediction.mos:.2f} ({scale.describe()})"
        drawing = draw_overlay(preview, box, values, title, CAPTION, scale.higher_is_better)
        write_atomically(self.folder / map_name(name), partial(drawing.save, format="PNG", optimize=True))


def map_name(path: str) -> str:
    """Return a readable file name, unique to the path: `photo.jpg.1b2c3d4e.png` for `holiday/photo.jpg`."""
    readable = re.sub(r"[^\w.+-]", "_", Path(path).name).encode()[:100].decode("utf-8", "ignore")
    return f"{readable}.{hashlib.sha256(path.encode()).hexdigest()[:DIGITS]}.png"
