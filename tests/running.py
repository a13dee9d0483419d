"""Running main.py in the process of the tests."""

from pathlib import Path

from main import main

ROOT = Path(__file__).parents[1]


def train(quick: list[str], *arguments: str) -> int:
    """The release's config, made quick."""
    return main(["--config", str(ROOT / "configs" / "koniq10k.yaml"), *quick, *arguments])


def folder_of(tmp_path: Path, number: int = 1) -> Path:
    """The folder of a split of the run that `quick` names."""
    return tmp_path / "runs" / "quick" / f"split_{number:02d}"
