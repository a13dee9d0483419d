"""Rules of the house: arrows between packages point one way, without a circle; files stay short."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = {"experiments", "scoring", "losses", "models", "datasets", "utils"}  # what a command may import
MAY_IMPORT = {  # by package or script; beside what is its own
    "utils": set(),
    "datasets": {"utils"},
    "models": {"utils"},
    "losses": {"datasets", "models", "utils"},
    "scoring": {"models", "datasets", "utils"},
    "experiments": {"scoring", "losses", "models", "datasets", "utils"},
    "inference": {"scoring", "utils"},
    "hubconf": set(),
    "richiqa": set(),
    "main": COMMANDS,
    "app": {"inference", *COMMANDS},
    "benchmarks": COMMANDS | {"main"},  # an epoch is measured through it
    "tools": COMMANDS,
}
IN_EXPERIMENTS = {  # by module or folder of experiments/; beside what is its own
    "failures": set(),
    "schema": set(),
    "training": {"schema", "failures"},
    "results": {"training", "schema", "failures"},
    "evaluation": {"results", "training", "schema", "failures"},
    "model_card": {"evaluation", "results", "training", "schema", "failures"},
    "suite": {"training", "failures"},
    "command_line": {"suite", "evaluation", "results", "training", "failures"},
}
LONGEST_FILE, LONGEST_FUNCTION = 400, 50

Imports = dict[str, set[str]]  # by module, the modules of ours that it imports anywhere, within functions as well


def sources(root: Path) -> dict[str, Path]:
    """Every Python file of ours by the name of its module."""
    places = [root / name for name in ("tests", *MAY_IMPORT)]
    files = [path for place in places for path in (*place.rglob("*.py"), place.with_suffix(".py")) if path.is_file()]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports_under(root: Path) -> Imports:
    files = sources(root)
    return {module: imported_by(path, files.keys()) for module, path in files.items()}


def imported_by(path: Path, ours: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in ours else node.module for name in names}
    return found & ours


def wrong_arrows(imports: Imports) -> list[str]:
    """Imports that go from one package to another against the order."""
    return [
        f"{module} imports {other}"
        for module, others in imports.items()
        if (package := module.split(".")[0]) in MAY_IMPORT
        for other in others
        if other.split(".")[0] not in {package, *MAY_IMPORT[package]}
    ]


def wrong_arrows_in_experiments(imports: Imports) -> list[str]:
    """The same between the folders of experiments/."""
    rooms = {module: module.split(".")[1] for module in imports if module.startswith("experiments.")}
    return [
        f"{module} imports {other}"
        for module, room in rooms.items()
        for other in imports[module]
        if other in rooms and rooms[other] not in {room, *IN_EXPERIMENTS.get(room, set())}
    ]


def circle(imports: Imports) -> list[str]:
    """Modules that import one another in a ring, the first one at both ends; none where there is no such ring."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        found = next(filter(None, (visit(other, (*way, module)) for other in sorted(imports[module]))), [])
        done.add(module)
        return found

    return next(filter(None, (visit(module, ()) for module in sorted(imports))), [])


@pytest.fixture(scope="module")
def imports() -> Imports:
    return imports_under(ROOT)


def test_imports_point_one_way(imports):
    assert wrong_arrows(imports) == []


def test_imports_within_experiments_point_one_way(imports):
    assert {module.split(".")[1] for module in imports if module.startswith("experiments.")} == IN_EXPERIMENTS.keys()
    assert wrong_arrows_in_experiments(imports) == []


def test_no_modules_import_one_another_in_a_circle(imports):
    assert circle(imports) == []


BROKEN = {  # what is wrong, by file; the second line of each is an import within a function
    "utils/files.py": "def f():\n    from datasets.splits import Split",
    "datasets/splits.py": "import utils.files",
    "inference.py": "from main import run",
    "main.py": "from experiments.training import step",
    "experiments/training/step.py": "def f():\n    from experiments import suite",
    "experiments/suite.py": "from experiments.training.step import Stepper",
}


def test_the_rules_find_what_is_broken(tmp_path):
    for name, text in BROKEN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    broken = imports_under(tmp_path)
    assert sorted(wrong_arrows(broken)) == ["inference imports main", "utils.files imports datasets.splits"]
    assert wrong_arrows_in_experiments(broken) == ["experiments.training.step imports experiments.suite"]
    assert circle(broken) == ["datasets.splits", "utils.files", "datasets.splits"]
    (tmp_path / "utils" / "files.py").write_text("")
    assert circle(imports_under(tmp_path)) == ["experiments.suite", "experiments.training.step", "experiments.suite"]


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_files_and_functions_stay_short(place):
    for module, path in sources(ROOT).items():
        if module.split(".")[0] != place:
            continue
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
