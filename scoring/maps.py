"""For each image that is scored, a drawing of what raises and what lowers its MOS."""

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.attribution import contributions, mos_map
from scoring.local import Scored
from scoring.overlay import draw_overlay
from scoring.predictor import SMALLER_BATCH, Predictor
from scoring.records import Recorder
from utils.files import make_folder, write_atomically
from utils.memory import enough_memory

SIDE = 1200  # pixels of the long side of the picture that is drawn
DIGITS = 8  # of the hash that tells images of one name apart
CAPTION = (
    "To first order, by position of the network's maps. A position has seen more of the image than its place: the map "
    "says where the network keeps what it uses, not which pixels are to blame."
)


class MapWriter:
    """Draws each image that it is called with into a folder.

    Raises:
        UserError: The folder cannot be made.
    """

    def __init__(self, folder: str, predictor: Predictor, recorder: Recorder):
        make_folder(folder)
        self.folder = Path(folder)
        self.predictor = predictor
        self.recorder = recorder
        predictor.kept_side = SIDE

    def __call__(self, scored: Scored) -> None:
        path, prediction, prepared = scored
        scale, small = self.predictor.scale, prepared.small
        left, top, right, bottom = self.predictor.preprocess.box
        box = (left * small.width, top * small.height, right * small.width, bottom * small.height)
        title = f"{Path(self.recorder.name(path)).name}: MOS {prediction.mos:.2f} ({scale.describe()})"
        drawing = draw_overlay(small, box, self._values(prepared.views[:1]), title, CAPTION, scale.higher_is_better)
        file = io.BytesIO()
        drawing.save(file, "PNG", optimize=True)
        write_atomically(self.folder / map_name(self.recorder.name(path)), lambda to: to.write(file.getbuffer()))

    @torch.inference_mode()
    def _values(self, views: Tensor) -> np.ndarray:
        """Points of MOS per pixel (H, W) of the first view (1, 3, H, W)."""
        with enough_memory(SMALLER_BATCH):
            parts = contributions(self.predictor.model, views.to(self.predictor.device))
            return mos_map(parts, self.predictor.scale.bin_centers, tuple(views.shape[2:]))[0].cpu().numpy()


def map_name(path: str) -> str:
    """`photo.jpg.1b2c3d4e.png` for `holiday/photo.jpg`: readable, and another one for each path."""
    readable = re.sub(r"[^\w.+-]", "_", Path(path).name).encode()[:100].decode("utf-8", "ignore")
    return f"{readable}.{hashlib.sha256(path.encode()).hexdigest()[:DIGITS]}.png"
