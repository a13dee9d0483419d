"""The requirements: each is used, all that is used is there, and the oldest allowed versions fit together."""

import ast
import sys
from collections import defaultdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pandas.compat._optional import VERSIONS

ROOT = Path(__file__).parents[1]
FILES = sorted(ROOT.glob("requirements*.txt"))
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "pillow-heif": "pillow_heif"}  # by package, where their names differ
NOT_IMPORTED = {
    **{"openpyxl": "by pandas", "xlrd": "by pandas", "onnx": "by torch.onnx", "onnxscript": "by torch.onnx"},
    **{"pytest-xdist": "pytest -n", "ruff": "make lint", "setuptools": "pip install ."},
}
BROUGHT_ALONG = {"markupsafe": "jinja2", "gradio_client": "gradio"}
IN_MAKEFILE = "selenium"
READERS = ("openpyxl", "xlrd", "jinja2", "pyarrow")  # that pandas uses for us


def requirements(path: Path) -> list[Requirement]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def lower_bound(requirement: Requirement) -> Version:
    (bound,) = (specifier.version for specifier in requirement.specifier if specifier.operator == ">=")
    return Version(bound)


def bounds() -> dict[str, set[Version]]:
    found = defaultdict(set)
    for path in FILES:
        for requirement in requirements(path):
            found[requirement.name].add(lower_bound(requirement))
    return found


@cache
def imports() -> dict[str, set[str]]:
    """The modules of others that are imported anywhere, with the files that do."""
    found = defaultdict(set)
    for path in ROOT.rglob("*.py"):
        if any(part.startswith(".") or part == "build" for part in path.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                found[name.partition(".")[0]].add(str(path.relative_to(ROOT)))
    ours = {path.stem for path in ROOT.iterdir()} | set(sys.stdlib_module_names) | {"richiqa"}
    return {name: paths for name, paths in found.items() if name not in ours}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_requirement_is_imported(path):
    imported = imports()
    product = {name for name, paths in imported.items() if not all(path.startswith("tests") for path in paths)}
    needed = imported if path.name == "requirements-dev.txt" else product
    unused = [each.name for each in requirements(path) if MODULES.get(each.name, each.name) not in needed]
    assert set(unused) <= NOT_IMPORTED.keys()


def test_every_import_is_required():
    required = {MODULES.get(name, name) for name in bounds()}
    needed = {BROUGHT_ALONG.get(name, name) for name in imports()} - {IN_MAKEFILE}
    assert needed <= required | {"packaging"}, "packaging comes with pytest"


def test_a_package_has_one_lower_bound_which_is_installed_at_least():
    for name, found in bounds().items():
        assert len(found) == 1, name
        try:
            assert Version(version(name)) >= max(found), name
        except PackageNotFoundError:
            assert name in ("gradio", "ray")


@pytest.mark.parametrize("name", READERS)
def test_what_pandas_uses_is_as_new_as_it_asks_for(name):
    """Pip does not know, since these are optional for pandas, which raises ImportError when they are used."""
    (bound,) = bounds()[name]
    assert bound >= Version(VERSIONS[name])


def test_the_first_python_is_that_of_the_lint():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10"' in text
    assert 'target-version = "py310"' in text
