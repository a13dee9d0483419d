"""Figure of a model card: the images with the largest errors, each beside both distributions.

K bins.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datasets.decoding import load_image
from datasets.scale import RatingScale
from experiments.model_card.tables import image_heading
from utils.files import write_atomically
from utils.tables import number

PAIRS = 2  # of an image and a chart, side by side
WIDTH, HEIGHT = 11, 2.5  # inches of the figure, and of each row
DPI = 100
LABEL, PREDICTION = "#1b3a57", "#e08a3c"  # distinguishable in greyscale
BAR = 0.4
LONG_SIDE = 400  # of an image in pixels


def draw_failures(rows: pd.DataFrame, root: Path, scale: RatingScale, path: Path) -> None:
    """Draw the images of rows of predictions.csv, with the label's distribution beside the predicted one, as PNG.

    Args:
        rows: Rows with the columns of `experiments.evaluation.predict.Predictions.table`.
        root: Folder of the images.
        scale: Rating scale of the labels.
        path: The file.

    Raises:
        MissingFileError: An image is not available.
        UserError: An image cannot be decoded, or the file cannot be written.
    """
    height = -(-len(rows) // PAIRS)
    figure = Figure(figsize=(WIDTH, HEIGHT * height), layout="constrained")
    axes = figure.subplots(height, 2 * PAIRS, squeeze=False, width_ratios=[1, 1.15] * PAIRS).reshape(-1, 2)
    sides = {side: rows[[f"{side}_p{k}" for k in range(1, scale.num_bins + 1)]] for side in ("target", "pred")}
    top = max(float(dos.max(axis=None)) for dos in sides.values())
    for place, (_, row) in enumerate(rows.iterrows()):
        picture, chart = axes[place]
        image = load_image(root / row["image"])
        image.thumbnail((LONG_SIDE, LONG_SIDE))
        picture.imshow(np.asarray(image))
        picture.set_title(image_heading(place, row["image"]), fontsize="small")
        _bars(chart, {side: dos.iloc[place].to_numpy() for side, dos in sides.items()}, row, scale)
        chart.set_ylim(0, 1.05 * top)
        chart.set_ylabel("share of ratings", fontsize="small")
        chart.set_xlabel("score", fontsize="small")
    for unused in axes.reshape(-1, 2)[len(rows) :].ravel():
        unused.remove()
    for picture in axes[: len(rows), 0]:
        picture.axis("off")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    write_atomically(path, lambda file: figure.savefig(file, dpi=DPI, format="png"))


def _bars(axes: Axes, dos: dict[str, np.ndarray], row: pd.Series, scale: RatingScale) -> None:
    positions = np.arange(scale.num_bins)
    axes.bar(positions - BAR / 2, dos["target"], BAR, color=LABEL, label="label")
    axes.bar(positions + BAR / 2, dos["pred"], BAR, color=PREDICTION, label="prediction")
    axes.set_xticks(positions, [f"{center:g}" for center in scale.bin_centers])
    axes.set_title(f"MOS {number(row['target_mos'], 1)}, predicted {number(row['pred_mos'], 1)}", fontsize="small")
    axes.tick_params(labelsize="small")
    axes.spines[["top", "right"]].set_visible(False)
