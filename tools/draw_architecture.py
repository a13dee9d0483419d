"""Draws the network as an SVG, from the shapes that the real modules return.

`python tools/draw_architecture.py [--output docs/architecture.svg]`. The network of a default config is built on the
meta device of torch, which allocates nothing, and forward hooks record its shapes.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.installation import require_installation

require_installation()

import torch
from torch import nn

from models import RichIQA, build_model
from utils.files import write_text
from utils.script import run_script
from utils.settings import Config

Shapes = dict[str, tuple[int, ...]]  # by module, without the batch

BLUE, GREEN, AMBER, GREY = "#1d5fa8", "#0f766e", "#b45309", "#475569"
TINTS = {BLUE: "#e8f1fb", GREEN: "#e3f5f1", AMBER: "#fdf1e0", GREY: "#f1f5f9"}
COLUMNS = (172, 432, 692)  # left edges of what is there three times
COLUMN = 232  # its width
EXAMPLE = (0.03, 0.09, 0.38, 0.40, 0.10)  # heights of the bars that stand for a DOS
FRAME = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 592">
<title>Architecture of RichIQA</title>
<style>
text { font: 14px "Segoe UI", Helvetica, Arial, sans-serif; fill: #1e293b; text-anchor: middle }
.name { font-weight: 600; font-size: 15px }
.shape { font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 13px }
.left { text-anchor: start }
path { stroke: #64748b; stroke-width: 1.6; fill: none; marker-end: url(#head) }
</style>
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">
<polygon points="0,0 8,4 0,8" fill="#64748b"/></marker>
<rect x="1" y="1" width="958" height="590" rx="14" fill="#ffffff" stroke="#cbd5e1"/>
{body}
</svg>
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("docs/architecture.svg"))
    args = parser.parse_args(arguments)
    write_text(args.output, draw(Config()))
    print(f"written to {args.output}")
    return 0


def draw(config: Config) -> str:
    """Return the SVG."""
    with torch.device("meta"):
        model = build_model(config.model, len(config.scale.bin_centers)).eval()
        images = torch.empty(2, 3, config.transform.crop, config.transform.crop)
    shapes = record_shapes(model, images)
    parts = [*backbone(model, shapes), *paths(shapes), *prediction(config, shapes)]
    return FRAME.replace("{body}", "\n".join(parts))


def record_shapes(model: RichIQA, images: torch.Tensor) -> Shapes:
    """Return what each module returns for these images; `image` is an image, `dos` the prediction."""
    shapes = {"image": tuple(images.shape[1:])}

    def record(name: str) -> Callable:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                shapes[name] = tuple(output.shape[1:])

        return hook

    hooks = [module.register_forward_hook(record(name)) for name, module in model.named_modules()]
    dos = model.head(model.backbone(images))  # forward asks for autocast, which the meta device does not know
    shapes["dos"] = tuple(dos.shape[1:])
    for hook in hooks:
        hook.remove()
    return shapes


def backbone(model: RichIQA, shapes: Shapes) -> list[str]:
    """Return the image, the stages and the features."""
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    drawn = [
        text(172, 36, "CvT-21 backbone", "name left", BLUE),
        f'<text x="924" y="36" style="text-anchor: end">{millions:.1f} M parameters in all</text>',
        box(24, 62, 116, 84, GREY, "Image", times(shapes["image"])),
        arrow(f"M140 104 H{COLUMNS[0]}"),
        text(82, 204, "Features f", "name", GREY),
        text(82, 223, times((sum(model.backbone.widths),)), "shape"),
    ]
    for number, (left, stage) in enumerate(zip(COLUMNS, model.backbone.stages, strict=True), start=1):
        conv, heads = stage.embedding.conv, stage.blocks[0].attention.heads
        lines = (
            f"conv {conv.kernel_size[0]}×{conv.kernel_size[0]}, stride {conv.stride[0]}",
            f"{counted(len(stage.blocks), 'block')}, {counted(heads, 'head')}{', cls token' * stage.cls_tokens}",
        )
        drawn.append(
            box(left, 48, COLUMN, 112, BLUE, f"Stage {number}", *lines, times(shapes[f"backbone.stages.{number - 1}"]))
        )
        drawn.append(arrow(f"M{left + COLUMN / 2:g} 160 V196"))
        if number < len(COLUMNS):
            drawn.append(arrow(f"M{left + COLUMN} 104 H{left + COLUMN + 28}"))
    widths = model.backbone.widths
    means = f"spatial means, concatenated: {' + '.join(map(str, widths))}"
    return [*drawn, box(172, 196, 752, 36, GREY, means, plain=True)]


def paths(shapes: Shapes) -> list[str]:
    """Return the two ways from features to logits."""
    size, bins = shapes["algorithmic.0"][-1], shapes["algorithmic.1"][-1]
    node = times(shapes["memory.attention"])
    direct = [
        box(36, 308, 108, 66, GREEN, "L2 norm", str(size)),
        box(168, 308, 124, 66, GREEN, "Linear", f"{size} → {size}"),
        box(316, 308, 124, 66, GREEN, "Linear", f"{size} → {bins}"),
        arrow("M144 341 H168"),
        arrow("M292 341 H316"),
    ]
    memory = [
        box(490, 308, 96, 66, AMBER, "Attention", "nodes v", node),
        box(602, 308, 96, 66, AMBER, "Short term", "memory s", times(shapes["memory.short"])),
        box(714, 308, 96, 66, AMBER, "Long term", "memory z", times(shapes["memory.long"])),
        box(826, 308, 86, 66, AMBER, "z + v", "mean, L2", times(shapes["memory"])),
        *(arrow(f"M{x} 341 H{x + 16}") for x in (586, 698, 810)),
    ]
    return [
        arrow("M288 232 V268"),
        arrow("M702 232 V268"),
        panel(24, 268, 428, 120, GREEN, "Algorithmic path"),
        panel(480, 268, 444, 120, AMBER, "Memory path"),
        *direct,
        *memory,
    ]


def prediction(config: Config, shapes: Shapes) -> list[str]:
    """Return the weighted sum, the distribution and what is trained on."""
    weight, bins = config.model.memory_weight, shapes["dos"][-1]
    loss, (left, middle, right) = config.loss, COLUMNS
    share = f"softmax( {1 - weight:g} · algorithmic + {weight:g} · memory )"
    bars = [
        f'<rect x="{left + 128 + 18 * number}" y="{558 - 100 * each:g}" width="14" height="{100 * each:g}"/>'
        for number, each in enumerate(EXAMPLE)
    ]
    return [
        arrow("M378 388 V424"),
        arrow("M702 388 V424"),
        text(366, 411, f"{bins} logits", "shape", anchor="end"),
        text(714, 411, f"{bins} logits", "shape", anchor="start"),
        box(300, 424, 496, 36, GREY, share, plain=True),
        *(arrow(f"M{x + COLUMN / 2:g} 460 V496") for x in (left + 90, middle, right - 30)),
        *(box(x, 496, COLUMN, 72, GREY, "") for x in COLUMNS),
        text(left + 64, 529, "DOS", "name", GREY),
        text(left + 64, 549, f"{loss.dos:g} × EMD", ""),
        f'<g fill="{GREY}">{"".join(bars)}</g>',
        text(middle + COLUMN / 2, 529, "MOS: mean", "name", GREY),
        text(middle + COLUMN / 2, 549, f"{loss.mos:g} × absolute error", ""),
        text(right + COLUMN / 2, 529, "SOS: standard deviation", "name", GREY),
        text(right + COLUMN / 2, 549, f"{loss.sos:g} × squared error", ""),
        text(82, 529, "Output", "name", GREY),
        text(82, 549, "and loss", ""),
    ]


def box(
    x: float, y: float, width: float, height: float, colour: str, name: str, *lines: str, plain: bool = False
) -> str:
    """Return a box with its name and lines; the last line is a shape, unless the box is `plain`."""
    centre, top = x + width / 2, y + height / 2 - 10 * len(lines) + 5
    written = [text(centre, top, name, "" if plain else "name", "" if plain else colour)]
    written += [
        text(centre, top + 20 * number, line, "shape" if number == len(lines) else "")
        for number, line in enumerate(lines, start=1)
    ]
    place = f'x="{x}" y="{y}" width="{width}" height="{height}"'
    return "\n".join([f'<rect {place} rx="7" fill="{TINTS[colour]}" stroke="{colour}" stroke-width="1.3"/>', *written])


def panel(x: float, y: float, width: float, height: float, colour: str, name: str) -> str:
    """Return a frame around boxes, with its name."""
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="none" stroke="{colour}"/>'
    return f"{frame}\n{text(x + 12, y + 26, name, 'name left', colour)}"


def text(x: float, y: float, words: str, kind: str, colour: str = "", anchor: str = "") -> str:
    """Return a text in the middle of x, on the line y."""
    styles = [f"fill: {colour}"] * bool(colour) + [f"text-anchor: {anchor}"] * bool(anchor)
    style = f' style="{"; ".join(styles)}"' if styles else ""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}"{style}>{escape(words)}</text>'


def arrow(way: str) -> str:
    """Return an arrow along an SVG path."""
    return f'<path d="{way}"/>'


def times(shape: Sequence[int]) -> str:
    """Return a shape as it is written in the figure."""
    return " × ".join(map(str, shape))


def counted(number: int, noun: str) -> str:
    """Return `1 block`, `4 blocks`."""
    return f"{number} {noun}{'s' * (number != 1)}"


if __name__ == "__main__":
    run_script(main)
