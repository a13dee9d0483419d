"""Rules of the house: arrows between packages point one way, files stay short."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "utils": {"utils"},
    "datasets": {"datasets", "utils"},
    "losses": {"losses", "datasets", "utils"},
    "models": {"models", "utils"},
    "scoring": {"scoring", "models", "datasets", "utils"},
    "inference.py": {"scoring", "utils"},
    "hubconf.py": {"scoring"},
    "experiments": {"experiments", "models", "datasets", "losses", "utils"},
    "main.py": {"experiments", "models", "datasets", "losses", "utils"},
    "benchmarks": {"benchmarks", "experiments", "models", "datasets", "losses", "utils"},
    "tools": {"tools", "experiments", "scoring", "models", "datasets", "losses", "utils"},
}
OURS = {"tests", *(place.removesuffix(".py") for place in MAY_IMPORT)}
LONGEST_FILE, LONGEST_FUNCTION = 400, 50


def sources(place: str) -> list[Path]:
    return [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py"))


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_imports_point_one_way(place):
    for path in sources(place):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            roots = {name.split(".")[0] for name in names} & OURS
            assert roots <= MAY_IMPORT[place], path


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_files_and_functions_stay_short(place):
    for path in sources(place):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST_FILE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{path}: {node.name}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/slurm/*")), ids=lambda path: path.name)
def test_scripts_for_clusters_are_bash_and_their_command_is_right(path):
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=True).stderr == ""
    assert f"# Command:  sbatch {path.relative_to(ROOT)} configs/koniq10k.yaml" in path.read_text(encoding="utf-8")
