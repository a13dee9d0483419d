"""Draws the network as an SVG: fills in `tools/architecture.svg` with the shapes that the real modules return.

`python tools/draw_architecture.py [--output docs/architecture.svg]`. The network of a default config is built on the
meta device of torch, which allocates nothing, and forward hooks record its shapes.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_installation

require_installation()

import torch
from torch import nn

from models import RichIQA, build_model
from utils.files import write_text
from utils.settings import Config

TEMPLATE = Path(__file__).with_name("architecture.svg")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("docs/architecture.svg"))
    args = parser.parse_args(arguments)
    write_text(args.output, draw(Config()))
    print(f"written to {args.output}")
    return 0


def draw(config: Config) -> str:
    """Return the SVG."""
    bins, crop, weight = len(config.scale.bin_centers), config.transform.crop, config.model.memory_weight
    with torch.device("meta"):
        model = build_model(config.model, bins).eval()
        shapes = record_shapes(model, torch.empty(2, 3, crop, crop))
    values = {
        "millions": f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f}",
        "image": f"3 × {crop} × {crop}",
        "features": sum(model.backbone.widths),
        "widths": " + ".join(map(str, model.backbone.widths)),
        "bins": bins,
        **{name: shapes[f"memory.{name}"] for name in ("attention", "short", "long")},
        "algorithmic_weight": f"{1 - weight:g}",
        "memory_weight": f"{weight:g}",
        **{f"{name}_weight": f"{getattr(config.loss, name):g}" for name in ("dos", "mos", "sos")},
    }
    for index, stage in enumerate(model.backbone.stages):
        conv, heads = stage.embedding.conv, stage.blocks[0].attention.heads
        blocks = f"{counted(len(stage.blocks), 'block')}, {counted(heads, 'head')}{', cls token' * stage.cls_tokens}"
        values |= {
            f"conv_{index + 1}": f"conv {conv.kernel_size[0]}×{conv.kernel_size[0]}, stride {conv.stride[0]}",
            f"blocks_{index + 1}": blocks,
            f"stage_{index + 1}": shapes[f"backbone.stages.{index}"],
        }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def record_shapes(model: RichIQA, images: torch.Tensor) -> dict[str, str]:
    """Return the shape that each module returns for these images, without the batch."""
    shapes = {}

    def record(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            shapes[name] = " × ".join(map(str, output.shape[1:]))

    for name, module in model.named_modules():
        module.register_forward_hook(partial(record, name))
    model.head(model.backbone(images))  # forward asks for autocast, which the meta device does not know
    return shapes


def counted(number: int, noun: str) -> str:
    """Return `1 block`, `4 blocks`."""
    return f"{number} {noun}{'s' * (number != 1)}"


if __name__ == "__main__":
    run_script(main)
