"""Figure of a database: histograms of MOS and SOS, MOS against SOS, mean DOS of each quality level."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datasets.inspection.examination import Examination
from datasets.label_checks import largest_sos
from datasets.labels import hypothesis_label, sos_hypothesis
from utils.files import write_atomically
from utils.tables import number

SIZE = (11, 8)  # inches
DPI = 130
BINS = 40
LEVELS = 5
SHADES = ("#08233f", "#2f5f8f", "#6a9bc5", "#a5c6e0", "#d9e6f2")  # one per quality level, from dark to light
HEADROOM = 1.3  # height of an axis relative to its content, which leaves room for the legend
DARK, MIDDLE, LIGHT = "#1b3a57", "#5b8db8", "#c9d8e6"  # distinguishable in greyscale

Array = np.ndarray


def draw(examination: Examination, path: Path) -> None:
    """Draw the figure and write it as PNG.

    Raises:
        UserError: The file cannot be written.
    """
    labels, scale = examination.labels(), examination.scale
    sos = labels.get("measured_sos", labels["sos"])
    measured = "measured" if "measured_sos" in labels else "from the hypothesis"
    figure = Figure(figsize=SIZE, layout="constrained")
    (mos_axes, sos_axes), (scatter, levels) = figure.subplots(2, 2)
    figure.suptitle(f"{examination.title}: {len(labels['mos'])} images, scale {scale.describe()}")
    unit = f"points of {scale.low:g} to {scale.high:g}"
    _histogram(mos_axes, labels["mos"], (scale.low, scale.high), f"MOS ({unit})", "MOS")
    _histogram(sos_axes, sos, None, f"SOS ({unit})", f"SOS, {measured}")
    _scatter(scatter, labels["mos"], sos, examination)
    _levels(levels, labels, examination)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=LIGHT, linewidth=0.6)
        axes.set_axisbelow(True)
    write_atomically(path, lambda file: figure.savefig(file, dpi=DPI, format="png"))


def _histogram(axes: Axes, values: Array, span: tuple[float, float] | None, unit: str, title: str) -> None:
    axes.hist(values, bins=BINS, range=span, color=MIDDLE, edgecolor="white", linewidth=0.4)
    axes.axvline(values.mean(), color=DARK, linestyle="--", linewidth=1.2, label=f"mean {values.mean():.3g}")
    axes.set(xlabel=unit, ylabel="images", title=title)
    axes.legend(frameon=False)


def _scatter(axes: Axes, mos: Array, sos: Array, examination: Examination) -> None:
    scale = examination.scale
    a, r2 = sos_hypothesis(mos, sos, scale)
    fit = f"R² = {number(r2, 2)}" if "measured_sos" in examination.labels() else "not measured"
    line = np.linspace(scale.low, scale.high, 200)
    size = float(np.clip(4000 / len(mos), 2, 20))
    axes.scatter(mos, sos, s=size, color=MIDDLE, alpha=0.35, linewidths=0, rasterized=True)
    if np.isfinite(a):
        curve = hypothesis_label(line, a, scale)
        axes.plot(line, curve, color=DARK, linewidth=2, label=f"SOS hypothesis, a = {a:.4f}, {fit}")
    most = [largest_sos(score, 10**9, scale) for score in line]
    axes.plot(line, most, color="black", linestyle=":", linewidth=1.2, label="largest possible")
    axes.set(xlim=(scale.low, scale.high), ylim=(0, HEADROOM * max(most)))
    axes.set(xlabel="MOS (points)", ylabel="SOS (points)", title="MOS against SOS")
    axes.legend(frameon=False, loc="upper left")


def _levels(axes: Axes, labels: dict[str, Array], examination: Examination) -> None:
    """Draw the mean DOS of the images in each fifth of the scale."""
    scale = examination.scale
    edges = np.linspace(scale.low, scale.high, LEVELS + 1)
    level_of = np.clip(np.searchsorted(edges, labels["mos"], side="right") - 1, 0, LEVELS - 1)
    width = 0.8 / LEVELS
    positions = np.arange(scale.num_bins)
    for level in range(LEVELS):
        rows = labels["dos"][level_of == level]
        if len(rows):
            name = f"{edges[level]:g} to {edges[level + 1]:g} ({len(rows)})"
            places = positions + (level - (LEVELS - 1) / 2) * width
            axes.bar(places, rows.mean(0), width, color=SHADES[level], edgecolor="black", linewidth=0.3, label=name)
    axes.set_ylim(0, HEADROOM * axes.dataLim.ymax)
    axes.set_xticks(positions, [f"{center:g}" for center in scale.bin_centers])
    axes.set(xlabel="bin centre (points)", ylabel="mean share of opinions", title="Mean DOS by level of MOS")
    axes.legend(frameon=False, title="MOS (images)", fontsize="small", loc="upper center", ncols=3)
