"""Score the photographs in docs/photographs/, as they are and damaged, and print a table of the predicted MOS.

`python tools/score_examples.py [--checkpoint FILE]`; without a checkpoint, with the weights that come with the project.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_packages

require_packages()

import numpy as np
import pandas as pd
from PIL import Image

from datasets.demo import blur, noise
from scoring.loading import load_predictor
from utils.tables import number, to_markdown

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "docs" / "photographs"
BLUR, NOISE, JPEG = 3.0, 0.15, 8  # standard deviations in pixels and of 1; quality
DIGITS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("--checkpoint", metavar="FILE", help="as for inference.py")
    predictor = load_predictor(parser.parse_args(arguments).checkpoint)
    rows = []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        versions = damaged_versions(Image.open(path).convert("RGB"))
        scores = [number(prediction.mos, DIGITS) for prediction in predictor(list(versions.values()))]
        rows.append([path.stem, *scores])
    print(f"MOS predicted by {predictor.checkpoint.name}, on a scale of {predictor.scale.describe()}:\n")
    print(to_markdown(pd.DataFrame(rows, columns=["photograph", *versions]), names=1, aligned=True))
    return 0


def damaged_versions(image: Image.Image) -> dict[str, Image.Image]:
    """Return an image as it is, blurred, with noise and compressed, by what was done; always the same pixels."""
    pixels, rng = np.asarray(image), np.random.default_rng(0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG)
    return {
        "as it is": image,
        f"blur, {BLUR:g} pixels": Image.fromarray(blur(pixels, BLUR, rng)),
        f"noise, {NOISE:.0%}": Image.fromarray(noise(pixels, NOISE, rng)),
        f"JPEG, quality {JPEG}": Image.open(file),
    }


if __name__ == "__main__":
    run_script(main)
