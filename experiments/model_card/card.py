"""The model card of the shipped network, written from its file, its evaluations and photographs."""

import hashlib
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from datasets.distortions import UNSEEN
from datasets.readers import with_defaults
from experiments.evaluation.evaluate import FOLDER
from experiments.evaluation.robustness import measure, to_text
from experiments.model_card.evaluations import Evaluation, read_evaluations
from experiments.model_card.figure import draw_failures
from experiments.model_card.tables import calibration_table, failures_table, pit_table, results_table, training_table
from experiments.schema import SplitContent
from experiments.training.run_folder import FREE_KEYS, PREDICTIONS
from models.weights import TrainedNetwork, load_network
from scoring.command import score_command
from scoring.loading import RUNS, load_predictor
from scoring.options import parse_arguments
from utils.config import changed_keys, load_config
from utils.errors import UserError
from utils.files import temporary_folder, write_text
from utils.schema import checked
from utils.settings import Config
from utils.tables import DASH, number
from utils.threads import usable_cores

TEMPLATE, FIGURE = "model_card.md.j2", "model_card_failures.png"
ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
REDISTRIBUTED = "clive"  # database of the figure: its notice allows copies, see clive_notice.txt.j2
FAILURES = 6  # images in the figure
TIMED = 100  # images, at least
BATCH = 8  # images per forward pass, for robustness
# keys that differ from the recipe without another training, and that of the fitted temperature
NOT_IN_RECIPE = (*FREE_KEYS, "model.pretrained", "model.temperature", "dataset.title", "dataset.scale", "dataset.sos_a")


def write_card(
    checkpoint: Path, folders: Sequence[Path], photographs: Sequence[str], output: Path, observation: str | None = None
) -> Path:
    """Write the model card of a network and its figure beside it, and return the path of the figure.

    Args:
        checkpoint: The network.
        folders: Folders with its evaluations, see `read_evaluations`.
        photographs: Photographs for robustness and speed.
        output: The card.
        observation: What the images of the figure have in common, in a sentence, if a reader has seen it.

    Raises:
        UserError: The evaluations are of another network, or one of REDISTRIBUTED is missing; a photograph cannot be
            read.
    """
    evaluations = read_evaluations(folders)
    network, predictor = load_network(checkpoint), load_predictor(checkpoint, "cpu")
    for evaluation in evaluations:
        evaluation.require_network(predictor)
    shown = next((evaluation for evaluation in evaluations if evaluation.title == REDISTRIBUTED), None)
    if shown is None or shown.dos("pred") is None:
        raise UserError(
            f"--evaluations: no evaluation of {REDISTRIBUTED} with the network's bins, whose images the figure shows; "
            f"`main.py --evaluate {checkpoint} --config configs/{REDISTRIBUTED}.yaml` makes it"
        )
    rows, errors = measure(predictor, photographs, BATCH)
    if errors:
        raise UserError(f"a photograph cannot be read: {errors[0]}")
    figure = output.parent / FIGURE
    draw_failures(shown.worst(FAILURES), shown.root, shown.scale, figure)
    context = {
        "robustness": to_text(rows),
        "unseen": ", ".join(UNSEEN[:-1]).replace("_", " ") + f" and {UNSEEN[-1]}",
        "speed": measure_speed(checkpoint, photographs),
        "figure": figure.name,
        "failures": describe_failures(shown),
        "observation": observation,
        "name": "RichIQA-Lite",
        **describe_photographs(photographs, evaluations, network.path.stem),
        **describe_file(network),
        **describe_training(network),
        **describe_evaluations(network, evaluations),
    }
    write_text(output, render(context))
    return figure


def render(context: dict[str, Any], template: str = TEMPLATE) -> str:
    """Return the card in Markdown."""
    loader = FileSystemLoader(Path(__file__).parent)
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = Environment(loader=loader, undefined=StrictUndefined, **options)
    environment.filters |= {"number": number, "quote": shlex.quote}
    text = environment.get_template(template).render(context)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def describe_file(network: TrainedNetwork) -> dict[str, Any]:
    """Return name, size, hash, parameters, config and scale of the file."""
    path = network.path.resolve()
    content = path.read_bytes()
    scale = network.config.scale
    return {
        "path": path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name,
        "megabytes": len(content) / 1e6,
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(tensor.numel() for tensor in network.model.parameters()),
        "config": network.config,
        "bins": ", ".join(f"{center:g}" for center in scale.bin_centers),
        "scale": scale,
    }


def describe_training(network: TrainedNetwork) -> dict[str, Any]:
    """Return the databases of the training with their parts, the commands, and settings that are not the recipe's."""
    split = checked(SplitContent, network.origin, network.path) if network.origin else None
    recipe = CONFIGS / f"{network.config.run.name}.yaml"
    commands = recipe_commands(recipe) if recipe.is_file() else []
    return {
        "training": training_table(network.config, split),
        "ancestors": [one.title for one in split.seen_before.databases] if split and split.seen_before else [],
        "recipe": recipe.relative_to(ROOT).as_posix() if commands else None,
        "commands": commands,
        "changed": changed_keys(with_defaults(load_config(recipe)), network.config, NOT_IN_RECIPE) if commands else [],
    }


def describe_evaluations(network: TrainedNetwork, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the tables of metrics and of calibration, and the commands that made the evaluations."""
    temperature = network.config.model.temperature
    factors = {"before": 1 / temperature, "after": 1} if temperature != 1 else {DASH: 1}
    calibrations = {
        evaluation.title: {when: evaluation.calibration(factor) for when, factor in factors.items()}
        for evaluation in evaluations
        if evaluation.dos("pred") is not None
    }
    labels = network.origin["databases"] if network.origin else {}
    environment = evaluations[0].metrics["environment"]
    return {
        "evaluations": evaluations,
        "results": results_table(evaluations, labels),
        "intervals": True,
        "temperature": temperature,
        "coverage": calibration_table(calibrations),
        "pit": pit_table(calibrations),
        "evaluation_overrides": evaluation_overrides(network.config, evaluations),
        "versions": ", ".join(f"{name} {value}" for name, value in environment.items() if name != "machine"),
    }


def describe_failures(evaluation: Evaluation) -> dict[str, Any]:
    """Return the table of the images with the largest errors, and how they compare with the whole test part."""
    worst = evaluation.worst(FAILURES)
    means = {name: (worst[name].mean(), evaluation.predictions[name].mean()) for name in ("target_mos", "target_sos")}
    return {
        "title": evaluation.title,
        "count": len(worst),
        "table": failures_table(worst),
        "too_high": int((worst["pred_mos"] > worst["target_mos"]).sum()),
        "mos": means["target_mos"],
        "sos": means["target_sos"],
        "images": len(evaluation.predictions),
    }


def describe_photographs(paths: Sequence[str], evaluations: Sequence[Evaluation], run: str) -> dict[str, str]:
    """Return in words how many photographs there are and of which evaluations, and the options that name them."""
    resolved, found, options = {Path(path).resolve() for path in paths}, {}, "photographs/"
    for evaluation in evaluations:
        images = {(evaluation.root / name).resolve() for name in evaluation.predictions["image"]}
        found[evaluation.title] = len(resolved & images)
        if resolved == images:
            folder = RUNS / FOLDER / run / evaluation.title
            options = f"--list {folder.as_posix()}/{PREDICTIONS} --root /path/to/{evaluation.title}"
    parts = [f"{count} of the evaluated images of {title}" for title, count in found.items() if count]
    others = len(resolved) - sum(found.values())
    parts += [f"{others} from elsewhere"] if others and parts else []
    details = f" ({', '.join(parts)})" if parts else ""
    return {"photographs": f"{len(resolved)} photographs{details}", "photograph_options": options}


def measure_speed(checkpoint: Path, photographs: Sequence[str]) -> dict[str, Any]:
    """Return how many images per second `inference.py` scores on the CPU, from files to a CSV, and of which size."""
    paths = [*photographs] * -(-TIMED // len(photographs))
    with temporary_folder() as folder:
        scores = folder / "scores.csv"
        options = ["--checkpoint", str(checkpoint), "--device", "cpu", "--output", str(scores)]
        start = time.perf_counter()
        score_command(parse_arguments([*options, paths[0]]), paths)
        seconds = time.perf_counter() - start
        sizes = pd.read_csv(scores)[["width", "height"]].median()
    size = f"{sizes['width']:.0f} x {sizes['height']:.0f}"
    return {"rate": len(paths) / seconds, "images": len(paths), "cores": usable_cores(), "size": size}


def recipe_commands(recipe: Path) -> list[str]:
    """Return the commands in the header of a config."""
    header = recipe.read_text(encoding="utf-8").partition("\nrun:")[0]
    (fact,) = re.findall(r"^# Command: +(.*(?:\n# {2,}.*)*)", header, re.MULTILINE)
    return [line.removeprefix("#").strip() for line in fact.splitlines()]


def evaluation_overrides(config: Config, evaluations: Sequence[Evaluation]) -> list[str]:
    """Return what follows `main.py --evaluate FILE`, for each command: the recipe's databases, then each other one."""
    trained = [settings.title for settings in config.dataset]
    roots = [f"dataset.{number}.root=/path/to/{title}" for number, title in enumerate(trained)]
    lines = [f"--config configs/{config.run.name}.yaml {' '.join(roots)}"]
    others = [evaluation.title for evaluation in evaluations if evaluation.title not in trained]
    return lines + [f"--config configs/{title}.yaml dataset.root=/path/to/{title}" for title in others]
