"""RichIQA as one package, for use in other programs: `richiqa.load_predictor(...)`.

The project's folders have names such as `utils` and `datasets`, which other packages have, too. This package loads them
under its own name: `richiqa.utils`, `richiqa.datasets`. Other packages of those names are neither replaced nor used.
"""

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType

PACKAGES = ("datasets", "experiments", "losses", "models", "scoring", "utils")
MODULES = (*PACKAGES, "inference", "main")
EXPORTS = {"load_predictor", "Predictor", "Prediction", "PictureSettings"}  # of inference.py

_here = Path(__file__).resolve().parent
HOME = _here if (_here / "inference.py").is_file() else _here.parent  # installed, or in a checkout


class _Prefixer(ast.NodeTransformer):
    """Let imports of the project's modules import them under this package."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level == 0 and node.module.partition(".")[0] in MODULES:
            node.module = f"{__name__}.{node.module}"
        return node

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for alias in node.names:
            if alias.name.partition(".")[0] in MODULES:
                raise ImportError(f"write `from {alias.name} import ...`: `import` would bind another name")
        return node


class _Loader(SourceFileLoader):
    """Load a file of the project as a module of this package."""

    def source_to_code(self, data: bytes, path: str, *, _optimize: int = -1) -> CodeType:
        tree = _Prefixer().visit(ast.parse(data, path))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def path_stats(self, path: str) -> dict:  # noqa: ARG002
        raise OSError("no cached bytecode: that of the file is for other imports")


class _Finder(MetaPathFinder):
    """Find `richiqa.NAME` in the project's folders."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target=None) -> ModuleSpec | None:  # noqa: ARG002
        package, *parts = fullname.split(".")
        if package != __name__ or not parts or parts[0] not in MODULES:
            return None
        location = HOME.joinpath(*parts)
        folder = location.is_dir()
        file = location / "__init__.py" if folder else location.with_suffix(".py")
        if not file.is_file():
            return None
        places = [str(location)] if folder else None
        return spec_from_file_location(
            fullname, file, loader=_Loader(fullname, str(file)), submodule_search_locations=places
        )


sys.meta_path.insert(0, _Finder())
import_module(f"{__name__}.utils")  # before torch, if the program has not imported it yet: see utils/threads.py


def __getattr__(name: str):
    """Import a public name on first use, so that `import richiqa` is fast."""
    if name in EXPORTS:
        return getattr(import_module(f"{__name__}.inference"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def score() -> None:
    """Run `inference.py`; this is the command `richiqa-score`."""
    _run("inference", exit_at_once=True)


def train() -> None:
    """Run `main.py`; this is the command `richiqa-train`."""
    _run("main", unread=1)


def _run(script: str, **options: int) -> None:
    scripts = import_module(f"{__name__}.utils.script")
    scripts.start_imports()
    main = import_module(f"{__name__}.{script}").main
    scripts.run_script(main, **options)
