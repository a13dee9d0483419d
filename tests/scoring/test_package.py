"""The package `richiqa`, which other programs import: from a checkout, and installed."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import richiqa
from inference import load_predictor
from tests.lite import lite_checkpoint
from tests.running import ROOT
from tools.export import main as export


@pytest.fixture
def elsewhere(tmp_path):
    """A program's folder with modules that are called like the project's."""
    folder = tmp_path / "program"
    (folder / "datasets").mkdir(parents=True)
    (folder / "datasets" / "__init__.py").write_text("theirs = True")
    (folder / "utils.py").write_text("theirs = True")
    return folder


def run(python: str | Path, code: str, folder: Path, path: Path | None = None) -> str:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run(
        [str(python), "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_has_every_folder():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "richiqa", "tests", "tools"}
    assert folders == set(richiqa.PACKAGES)
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    stated = {node.targets[0].id: node.value for node in ast.parse(setup).body if isinstance(node, ast.Assign)}
    assert set(ast.literal_eval(stated["PACKAGES"])) == folders


def test_it_scores_beside_modules_of_the_same_names(checkpoint, photo, elsewhere):
    code = f"""
import datasets, utils, richiqa
predictor = richiqa.load_predictor({str(checkpoint)!r}, device="cpu")
print(repr(predictor({str(photo)!r}).mos), utils.theirs, datasets.theirs, type(predictor).__module__)
"""
    score, *theirs, module = run(sys.executable, code, elsewhere, ROOT).split()
    assert float(score) == pytest.approx(load_predictor(checkpoint, device="cpu")(photo).mos, abs=1e-6)
    assert theirs == ["True", "True"]
    assert module == "richiqa.scoring.predictor"


@pytest.mark.slow
def test_every_module_loads_under_the_package(elsewhere):
    """Nothing in the project is imported under its plain name."""
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in richiqa.PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
        if {"ray", "page"}.isdisjoint(file.parts)  # need packages of their own
    ]
    code = f"""
import sys, importlib
for name in {[*modules, "main", "inference"]}:
    importlib.import_module("richiqa." + name)
print([name for name in {list(richiqa.MODULES)} if name in sys.modules])
"""
    assert run(sys.executable, code, elsewhere, ROOT).strip() == "[]"


@pytest.mark.slow
def test_forked_and_spawned_processes_can_use_it(checkpoint, photo, elsewhere):
    (elsewhere / "program.py").write_text(
        f"""
import multiprocessing, sys, richiqa

def score(path):
    return richiqa.load_predictor({str(checkpoint)!r}, device="cpu")(path)

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(score, [{str(photo)!r}])[0].mos > 1)
"""
    )
    for method in ("fork", "spawn"):
        done = subprocess.run(
            [sys.executable, "program.py", method],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "True\n", done.stderr


@pytest.mark.slow
def test_pip_install(checkpoint, photo, elsewhere, tmp_path):
    """`pip install .`, without its requirements; then a score, a training and the two commands, in another folder."""
    pytest.importorskip("setuptools")
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    source = tmp_path / "source"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for file in files:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_bytes((ROOT / file).read_bytes())
    weights = source / "checkpoint" / "richiqa_lite.safetensors"  # a stand-in
    assert export([str(lite_checkpoint(tmp_path / "lite.pt")), "--output", str(weights), "--overwrite"]) == 0
    (source / "checkpoint" / "mine.safetensors").write_bytes(b"")
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    code = f"import richiqa; print(richiqa.load_predictor({str(checkpoint)!r}, device='cpu')({str(photo)!r}).mos)"
    assert float(run(sys.executable, code, elsewhere, target)) > 1
    assert [path.name for path in (target / "richiqa" / "checkpoint").glob("*.safetensors")] == [weights.name]
    code = "import richiqa; print(richiqa.load_predictor(device='cpu').checkpoint)"
    assert run(sys.executable, code, elsewhere, target).strip() == str(target / "richiqa" / "checkpoint" / weights.name)
    commands = (
        ("richiqa-score", str(photo)),
        ("richiqa-score", str(photo), "--checkpoint", str(checkpoint), "--format", "csv"),
        ("richiqa-train", "train.epochs=1", "dataset.root=data", "run.root=runs", "train.device=cpu"),
    )
    for name, *arguments in commands:
        command = [sys.executable, str(target / "bin" / name), *arguments]
        done = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
    assert (elsewhere / "runs" / "demo" / "split_01" / "best.pt").is_file()
