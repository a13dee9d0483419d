"""A repository for the Hugging Face hub: a folder with the weights of a network, their config and a model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from experiments.model_card.card import REDISTRIBUTED, describe_file, describe_training, render
from experiments.model_card.evaluations import DatabaseResults, read_evaluations, training_results
from experiments.model_card.tables import results_table
from models.export import ExportFormat, export
from models.weights import TrainedNetwork, load_network
from scoring.loading import load_predictor
from utils.checkpoint import FORMAT
from utils.errors import UserError
from utils.files import new_folder, reading, require_place, to_json, write_text
from utils.hub import WEIGHTS, is_hub_address, parse_address
from utils.schema import VERSION

CONFIG, CARD = "config.json", "README.md"
FILES = (WEIGHTS, CONFIG, CARD)
TEMPLATE = "hub_card.md.j2"
TASK = "image-classification"  # of those that the hub knows: shares of the scores, as of classes
TAGS = ("image-quality-assessment", "no-reference-iqa", "opinion-scores")
METRICS = {"srcc": "spearmanr", "plcc": "pearsonr"}  # by our name, that of the hub
TITLES = {"srcc": "SRCC", "plcc": "PLCC, after a four-parameter logistic fit"}


def check_folder(folder: Path, overwrite: bool) -> None:
    """Check before the work that a folder can be written, and that nothing else is replaced.

    Raises:
        UserError: It exists already, or contains files other than FILES.
    """
    with reading(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--output: {folder} is a file; name a folder")
        if folder.exists() and not overwrite:
            raise UserError(f"{folder} already exists; --overwrite replaces it")
        others = sorted(path.name for path in folder.iterdir() if path.name not in FILES) if folder.exists() else []
    if others:
        raise UserError(f"--output: {folder} contains more than an export, such as {others[0]}; name another folder")
    require_place(folder.absolute().parent)


def write_repository(
    network: TrainedNetwork, form: ExportFormat, folder: Path, evaluations: Sequence[Path] = ()
) -> tuple[dict[str, float], list[str]]:
    """Write a repository, which replaces an existing folder.

    Args:
        network: The network.
        form: Format of the weights: safetensors, or that with half precision.
        folder: The folder, whose name is that of the model in the card.
        evaluations: Folders with evaluations of the network, see `read_evaluations`; without any, the card has the
            results of the training, if they lie beside the checkpoint.

    Returns:
        Largest differences, as `models.export.export` does, and the titles of the databases whose results the card has.

    Raises:
        UserError: An evaluation is of another network, the network cannot be exported, or a file cannot be written.
    """
    results = read_evaluations(evaluations) if evaluations else training_results(network)
    with new_folder(folder) as draft:
        differences = export(network, form, draft / WEIGHTS)
        exported = load_network(draft / WEIGHTS)  # its config has no folders of this machine
        if evaluations:
            predictor = load_predictor(draft / WEIGHTS, "cpu")
            predictor.checkpoint = network.path  # its name in errors
            for evaluation in results:
                evaluation.require_network(predictor)
        config = exported.config.model_dump(mode="json")
        content = {"format": FORMAT, "version": VERSION, "config": config, "scale": config["scale"]}
        write_text(draft / CONFIG, to_json(content, indent=2) + "\n")
        write_text(draft / CARD, render(describe(exported, results, folder.absolute().name), TEMPLATE))
    return differences, [one.title for one in results]


def describe(network: TrainedNetwork, results: Sequence[DatabaseResults], name: str) -> dict[str, Any]:
    """Return what the template of the card needs; training data are left out where the file does not record them."""
    known = network.origin is not None
    trained = describe_training(network) if known else {"training": None}
    databases = {settings.name for settings in network.config.dataset} if known else set()
    return {
        **describe_file(network),
        **trained,
        "path": WEIGHTS,
        "name": name,
        "front_matter": front_matter(network, results, name),
        "evaluations": results,
        "results": results_table(results, network.origin["databases"] if known else {}),
        "intervals": any(one.interval(metric) != (None, None) for one in results for metric in METRICS),
        "temperature": network.config.model.temperature,
        "redistributed": REDISTRIBUTED in databases,
    }


def front_matter(network: TrainedNetwork, results: Sequence[DatabaseResults], name: str) -> str:
    """Return the card's metadata in YAML, as the hub reads them."""
    scores = [
        EvalResult(
            **{"task_type": TASK, "task_name": "Image quality assessment"},
            **{"dataset_type": one.title, "dataset_name": one.title, "dataset_split": one.metrics["part"]},
            **{"metric_type": METRICS[metric], "metric_name": TITLES[metric], "metric_value": value},
        )
        for one in results
        for metric in METRICS
        if (value := one.metrics["databases"][one.title].get(metric)) is not None
    ]
    pretrained = network.config.model.pretrained
    data = ModelCardData(
        license="mit",
        library_name=FORMAT,
        pipeline_tag=TASK,
        tags=[*TAGS],
        base_model=parse_address(pretrained)[0] if is_hub_address(pretrained) else None,
        metrics=[*METRICS.values()] if scores else None,
        model_name=name if scores else None,
        eval_results=scores or None,
    )
    return data.to_yaml()
