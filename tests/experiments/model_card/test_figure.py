"""The figure of the largest errors: what is drawn has the colours and areas that it should have."""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from PIL import Image

from datasets.scale import RatingScale
from experiments.model_card.figure import LABEL, PREDICTION, draw_failures

SCALE = RatingScale(0, 100, (10, 30, 50, 70, 90))


def test_images_and_both_distributions(tmp_path):
    rows = pd.DataFrame({"image": ["deep/a.png", "b.png", "c.png"], "target_mos": 10.0, "pred_mos": 60.0})
    rows[[f"target_p{k}" for k in range(1, 6)]] = [0.5, 0.2, 0.1, 0.1, 0.1]
    rows[[f"pred_p{k}" for k in range(1, 6)]] = [0.1, 0.1, 0.2, 0.3, 0.3]
    (tmp_path / "deep").mkdir()
    for name in rows["image"]:
        Image.new("RGB", (64, 48), "red").save(tmp_path / name)
    draw_failures(rows, tmp_path, SCALE, tmp_path / "figure.png")
    pixels = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB")).reshape(-1, 3) / 255
    areas = {name: (np.abs(pixels - to_rgb(name)).max(axis=1) < 0.02).sum() for name in ("red", LABEL, PREDICTION)}
    assert areas["red"] > 0.1 * len(pixels)
    assert areas[LABEL] > 0.01 * len(pixels)
    assert abs(areas[LABEL] / areas[PREDICTION] - 1) < 0.1  # both sum to 1
