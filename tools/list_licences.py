"""List the licences of the installed packages that requirements.txt brings, and of the weights, as Markdown.

`python tools/list_licences.py [requirements-app.txt ...]`. A licence is what the package states; where that is `not
stated`, its files may state one.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

import pandas as pd

from utils.files import reading
from utils.tables import to_markdown

NAME = re.compile(r"[\w.-]+")  # at the start of a requirement
CLASSIFIER = "License :: OSI Approved :: "
LONGEST = 60  # characters of a licence; some packages state its whole text
WEIGHTS = (
    ("RichIQA-Lite", "checkpoint/richiqa_lite.safetensors", "MIT; for the training data see docs/MODEL_CARD.md"),
    ("EfficientNet-Lite0", "start of RichIQA-Lite's training, not included", "Apache-2.0"),
    ("CvT-21, ImageNet-22k", "start of CvT-21's training, not included", "Apache-2.0"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("files", nargs="*", metavar="FILE", type=Path, help="requirements; default: requirements.txt")
    files = parser.parse_args(arguments).files or [ROOT / "requirements.txt"]
    found = installed(name for path in files for name in required_by(path))
    rows = [(name, each.version, licence(each)) for name, each in sorted(found.items())]
    print(to_markdown(pd.DataFrame(rows, columns=["package", "version", "licence"]), names=3))
    print(f"\n{to_markdown(pd.DataFrame(WEIGHTS, columns=['weights', 'where', 'licence']), names=3)}")
    return 0


def required_by(path: Path) -> list[str]:
    """Return the names in a requirements file and in those that it refers to with `-r`."""
    with reading(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    others = [line.removeprefix("-r").strip() for line in lines if line.startswith("-r")]
    own = [match[0] for line in lines if (match := NAME.match(line)) and not line.startswith("-")]
    return own + [name for other in others for name in required_by(path.parent / other)]


def installed(names: Iterator[str]) -> dict[str, Distribution]:
    """Return the installed ones of some packages and of all that these require, by normalised name.

    What only an extra requires is left out; what another system or Python requires is not installed.
    """
    found, waiting = {}, list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        required = (text for text in found[name].requires or () if "extra ==" not in text)
        waiting += [NAME.match(text)[0] for text in required]
    return found


def licence(package: Distribution) -> str:
    """Return what the metadata of a package state: an expression, else classifiers, else a short text."""
    stated = package.metadata.get("License-Expression")
    classifiers = [text for text in package.metadata.get_all("Classifier") or () if text.startswith(CLASSIFIER)]
    classified = ", ".join(text.removeprefix(CLASSIFIER) for text in classifiers)
    text = package.metadata.get("License") or ""
    return stated or classified or (text if 0 < len(text) <= LONGEST and "\n" not in text else "not stated")


if __name__ == "__main__":
    run_script(main)
