"""README and docs: every command runs or at least parses, every link leads somewhere, every Python block runs."""

import io
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import richiqa  # noqa: F401, loads the project under its name
from experiments.command_line import parse_arguments as parse_main
from experiments.suite import load_configs
from models import build_model
from models.official import to_official
from scoring.options import parse_arguments as parse_inference
from tests.databases import write_database
from tests.running import ROOT
from utils.config import load_config

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "checkpoint" / "README.md"]
README_LINES = 200
SMALL = [  # replaces the sizes of a documented training
    *("transform.resize=40", "transform.crop=32", "model.backbone=cvt_nano", "model.pretrained=none"),
    *("train.epochs=1", "train.batch_size=4", "train.device=cpu", "train.workers=0", "train.compile=false"),
    *("train.precision=fp32", "protocol.unit=auto"),
]
NOT_RUN = {  # commands that are only parsed: the beginning of each, or a part, and why
    "'configs/ablations/*.yaml'": "trains 26 runs; tests/utils/test_config.py loads each file",
    "parallel_splits=4": "starts four processes; see tests/experiments/training/test_parallel.py",
    "--engine ray": "starts Ray; see tests/scoring/ray/test_engine.py",
    "release.pth": "CvT-21 takes a minute for an evaluation or an export; one image is scored below",
    "torchrun": "see tests/test_processes.py",
    "richiqa_lite": "needs the shipped weights, and databases; see tests/experiments/model_card",
    "biq2021_lite": "needs BIQ2021; tests/test_main.py makes a step of every config",
    "clive_lite": "starts from a network on BIQ2021; tests/test_main.py makes a step of every config",
    "configs/photo.yaml": "trains on two databases at once; see tests/test_union.py",
    "tools/model_card.py": "needs an evaluation; see tests/experiments/model_card",
    "tools/ablate_head.py": "needs CLIVE and a network; see tests/experiments/evaluation/test_head_ablation.py",
    "python app.py": "serves until it is stopped; see tests/scoring/page",
    "python benchmarks/": "measures for a minute and more; see tests/benchmarks",
}
SLOW = ("tools/export.py", "tools/report.py", "check_dataset.py --config")  # run by -m slow
DEMO = [f"data/demo/images/scene_06_{name}.png" for name in ("clean", "noise_5")]
OF_SHELL = ("python3 -m venv .venv && . .venv/bin/activate",)  # makes an environment


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands_of(page: Path) -> list[str]:
    """Every command of a page without its comment."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return list(filter(None, (re.sub(r"(^|\s+)#\s.*", "", line).strip() for line in lines)))


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands_of(page)))


def is_run(command: str) -> bool:
    ours = "python " in command and " -m " not in command
    return ours and not any(part in command for part in NOT_RUN)


def tell(command: str) -> object:
    return pytest.param(command, marks=pytest.mark.slow) if any(part in command for part in SLOW) else command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with everything that the pages name: configs, images, databases, a trained run."""
    place = tmp_path_factory.mktemp("docs")
    (place / "configs").symlink_to(ROOT / "configs")
    shutil.copytree(ROOT / "docs", place / "docs")
    rng = np.random.default_rng(0)
    for name in ("photo.jpg", "photo.png", "photos/a.jpg", "photos/b.jpg", "images/c.jpg", *DEMO):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(place / name)
    (place / "koniq10k.csv").write_text("image_name\nc.jpg\n")
    for folder, name in {
        "to/koniq10k": "koniq10k",
        "to/SPAQ": "spaq",
        "data/spaq": "spaq",
        "data/clive": "clive",
    }.items():
        (place / folder).parent.mkdir(exist_ok=True)
        write_database(name, place / folder)
    options = [*SMALL, f"run.root={place / 'checkpoint'}", f"dataset.root={place / 'to' / 'koniq10k'}"]
    main = import_module("main").main
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("main.print_report", lambda *_: None)
        for config in ("koniq10k", "ablations/memory_none"):
            path = ROOT / "configs" / f"{config}.yaml"
            assert main(["--config", str(path), *options, "protocol.splits=1"]) == 0
    shutil.copy(place / "checkpoint" / "koniq10k" / "split_01" / "best.pt", place / "best.pt")
    return place


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr("scoring.loading.SHIPPED_WEIGHTS", place / "best.pt")
    monkeypatch.setattr("richiqa.scoring.loading.SHIPPED_WEIGHTS", place / "best.pt")  # another copy of the code
    return place


def arguments_of(command: str, place: Path | None = None) -> tuple[str, list[str]]:
    """The script of ours that a command starts, and its arguments; paths to databases are those of `place`."""
    words = shlex.split(command.rpartition(" | ")[2])
    if words[0] == "sbatch":
        return "main.py", ["--config", *words[2:]]
    script = next(number for number, word in enumerate(words) if word.endswith(".py"))
    given = words[script + 1 :]
    return words[script], [word.replace("/path/", f"{place}/") if place else word for word in given]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    words = shlex.split(command)
    if command in OF_SHELL:
        return
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[:2] == ["pip", "install"]:
        assert words[2] != "-r" or (ROOT / words[3]).exists()
    elif words[0].endswith(".sh"):
        assert subprocess.run(["bash", "-n", str(ROOT / words[0])], check=False).returncode == 0
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:] if word.startswith("tests/"))
    else:
        require_arguments(*arguments_of(command))


def require_arguments(script: str, given: list[str]) -> None:
    """Hold arguments against the script's own parser, and overrides against the settings."""
    assert (ROOT / script).exists()
    if script == "main.py":
        args = parse_main(given)
        assert load_configs([str(ROOT / name) for name in args.config], args.overrides)
    elif script == "inference.py":
        parse_inference(given)
    elif script in ("tools/ablate_head.py", "tools/model_card.py", "tools/robustness.py"):
        import_module(script.removesuffix(".py").replace("/", ".")).parse_arguments(given)
    else:
        source = (ROOT / script).read_text(encoding="utf-8")
        assert [word for word in given if word.startswith("--") and f'"{word}"' not in source] == []


@pytest.mark.parametrize("command", [tell(command) for command in COMMANDS if is_run(command)])
def test_commands_run(command, here, tmp_path, monkeypatch):
    script, given = arguments_of(command, here)
    if " | " in command:
        piped = subprocess.run(["bash", "-c", command.rpartition(" | ")[0]], capture_output=True, check=True).stdout
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
    if script == "main.py":
        given += small(given, here, tmp_path)
    elif script == "inference.py":
        given += ["--device", "cpu", *(["--overwrite"] * ("--output" in given))]
    elif script == "tools/export.py":
        given += ["--overwrite"]
    module = import_module(script.removesuffix(".py").replace("/", "."))
    assert module.main(given) == 0


def small(given: list[str], place: Path, folder: Path) -> list[str]:
    """What makes a documented training or evaluation take a second."""
    if "--evaluate" in given:
        return ["--output", str(folder), "train.device=cpu", "train.workers=0"]
    root = place / "checkpoint" if "--resume" in given else folder  # there it is finished
    database = [] if any(word.startswith("dataset.root=") for word in given) else ["dataset.name=koniq10k"]
    database += [f"dataset.root={place / 'to' / 'koniq10k'}"] if database else []
    splits = 10 if "--split" in given else 1
    return [*SMALL, *database, f"run.root={root}", f"protocol.splits={splits}"]


PYTHON = [code for page in PAGES for code in blocks(page, "python") if "onnxruntime" not in code]
# the block with onnxruntime: tests/tools/test_export.py


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(code, tmp_path):
    (tmp_path / "damaged.jpg").write_bytes(b"")
    exec(code.replace("/path/to/richiqa", str(ROOT)).replace("damaged.jpg", str(tmp_path / "damaged.jpg")), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_is_yaml(page):
    for text in blocks(page, "yaml"):
        named = re.match(r"# (configs/\S+)\n", text)
        content = yaml.safe_load(text)
        if named:
            assert content == yaml.safe_load((ROOT / named[1]).read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_release_checkpoints_are_scored(capsys):
    """As the pages do, with a checkpoint that is made up."""
    torch.manual_seed(0)
    state = to_official(build_model().state_dict(), complete=True)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, "release.pth")
    (command,) = [each for each in COMMANDS if each.startswith("python inference.py") and "release.pth" in each]
    assert import_module("inference").main([*arguments_of(command)[1], "--device", "cpu"]) == 0
    assert "MOS" in capsys.readouterr().out


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_mentioned_files_exist(page):
    """Scripts, tests and configs; what a run writes, and the files of databases, are not ours."""
    for name in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|yaml|sh|sbatch|md|svg))`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (ROOT / "tests" / name).exists(), name


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/{page.name}" in text for page in PAGES if page.parent == ROOT / "docs")


def test_the_table_of_configs_is_complete():
    """And every ablation is named on the page."""
    text = (ROOT / "docs" / "TRAINING.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "configs").glob("*.yaml") if f"`configs/{path.name}`" not in text] == []
    assert [path.stem for path in (ROOT / "configs/ablations").glob("*.yaml") if f"`{path.stem}`" not in text] == []
    assert load_config(ROOT / "configs" / "koniq10k.yaml").protocol.splits == 10


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_a_config_opens_with_five_facts(path):
    """Where it comes from, what it needs, how it is started, what it gives and how long it takes."""
    header = path.read_text(encoding="utf-8").partition("\nrun:")[0]
    facts = re.findall(r"^# (\w+): +\S", header, re.MULTILINE)
    assert facts == ["Source", "Data", "Command", "Expected", "Duration"]
    (given,) = re.findall(r"^# Command:  python main.py(.*)$", header, re.MULTILINE)
    assert path.name in ("demo.yaml", "custom.yaml") or f"--config configs/{path.name}" in given
