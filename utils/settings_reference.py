"""The meaning of every key of a config, and the tables of docs/CONFIGURATION.md."""

from collections.abc import Iterator
from typing import Any, get_args

import pandas as pd
from pydantic import BaseModel

from utils.settings import Config, Settings
from utils.tables import to_markdown

COLUMNS = ("key", "type", "default", "allowed", "meaning")
TYPES = {"integer": "integer", "number": "number", "boolean": "boolean", "string": "text", "null": "`null`"}

# text above the table of each section
SECTIONS = {
    "run": "Where a run is written.",
    "seed": "The seed of the training.",
    "dataset": "The database and how its labels are made. With several databases, each one has these keys.",
    "scale": "The rating scale. It travels inside the checkpoint. With several databases, it is the scale that "
    "inference reports on.",
    "transform": "Images are squashed to a square, then cropped.",
    "model": "The network.",
    "loss": "Weights and variants of the joint loss.",
    "optim": "The optimiser.",
    "schedule": "The learning rate over the steps of a run.",
    "train": "Length, batches, precision and device of the training.",
    "protocol": "How images are split, and which epoch is kept.",
    "logging": "What is written beside `log.jsonl`.",
}

MEANINGS = {
    "run.name": "Name of the run: results go to `<run.root>/<run.name>/split_NN/`.",
    "run.root": "Folder of all runs. `~` is expanded.",
    "seed": "Seed of initialisation, augmentation and batch order. Splits have their own, `protocol.split_seed`.",
    "dataset.name": "Which reader: one of the databases in [DATABASES.md](DATABASES.md), `csv` or `demo`.",
    "dataset.title": "Name in reports, folders and result files. `null`: `dataset.name`.",
    "dataset.root": "Folder that the official archive was unpacked to. Omitted, it is `data/<dataset.name>`.",
    "dataset.labels": "Which label file, relative to `root`. `null`: the first known file that exists; for `csv`, the "
    "only one.",
    "dataset.dos": "DOS label: votes, Gaussian, or maximum entropy. `auto`: votes where the file has them, else "
    "Gaussian.",
    "dataset.sos_source": "SOS label: as the release, from the file, or from the SOS hypothesis. `auto`: from the file "
    "where it has one, else from the hypothesis.",
    "dataset.sos_a": "The a of the hypothesis SOS^2 = a (MOS - low)(high - MOS) for labels. `fit`: least squares over "
    "all rows of the file, test images included. `null`: the database's own value.",
    "dataset.strict": "Refuse rows that are odd but usable.",
    "dataset.allow_missing": "Omit rows whose image is missing instead of refusing the database.",
    "dataset.decode": "`draft` decodes JPEGs at the smallest scale that is not below `transform.resize`; it changes "
    "pixels slightly.",
    "dataset.cache": "Keep squashed images in memory (`ram`, one process only) or in one file (`disk`). It changes no "
    "number.",
    "dataset.cache_folder": "Folder of the `disk` cache. `null`: `cache/` under `run.root`.",
    "dataset.split_file": "With `protocol.method: file`, the file that says which image is in which part.",
    "dataset.scale": "Rating scale of this database, in a list of several databases. `null`, or any key omitted: the "
    "scale that the database is published with.",
    "dataset.weight": "Factor of this database's images in the loss, in a list of several databases.",
    "scale.low": "Lowest score.",
    "scale.high": "Highest score.",
    "scale.bin_centers": "Score of each bin, lowest first. Their number is the number of bins K.",
    "scale.higher_is_better": "`false` for scales such as DMOS, on which lower is better.",
    "transform.resize": "Side of the square that an image is squashed to, in pixels.",
    "transform.crop": "Side of the square that is cropped: at random in training, the centre in tests. At most "
    "`resize`.",
    "model.backbone": "`cvt_21`, `cvt_13`, `cvt_nano`, or `timm:<name>` for a timm model with feature levels.",
    "model.pretrained": "`none`, `imagenet22k` (CvT), `timm` (a timm backbone), or a file: weights, or a checkpoint to "
    "fine-tune, whose training images are remembered.",
    "model.memory": "Memory path: `full` (the release), `short` (z = s), `long` (v in place of s), or `none`.",
    "model.memory_weight": "Share of the memory logits in the prediction.",
    "model.stages": "Which stages feed the head, counted from 1, in rising order. Later ones are not built.",
    "model.init": "Initialisation of CvT's linear layers.",
    "model.drop_path": "Stochastic depth of the last block; it rises linearly from 0.",
    "loss.dos": "Weight of the DOS term (EMD). At least one of the three weights is above 0.",
    "loss.mos": "Weight of the MOS term (mean absolute error).",
    "loss.sos": "Weight of the SOS term (mean squared error).",
    "loss.sos_target": "What the predicted SOS is compared with: the SOS hypothesis at the predicted MOS (the "
    "release), or the SOS label.",
    "loss.sos_a": "The a of the hypothesis in the loss. `fit`: least squares over the training part. With several "
    "databases, one value for all or a list.",
    "loss.units": "`native` measures MOS and SOS in units of the scale (the release), `acr` as if every scale were as "
    "wide as 1..5.",
    "optim.name": "`adam` adds weight decay to the gradient (the release), `adamw` decouples it.",
    "optim.lr": "Learning rate: the constant, or the start of `cosine`, or the peak of `onecycle`.",
    "optim.weight_decay": "Weight decay.",
    "optim.clip_norm": "Largest norm of the gradient. `null`: no clipping.",
    "optim.ema_decay": "Decay of averaged weights, which are then evaluated and saved. `null`: no averaging.",
    "schedule.name": "Shape of the schedule.",
    "train.epochs": "Epochs of each split.",
    "train.batch_size": "Images of one step, of all processes together. The last incomplete batch is dropped.",
    "train.accumulate": "Number of equal parts that a batch passes through the network in, to save memory. Each part "
    "has at least 2 images; BatchNorm sees the parts.",
    "train.precision": "Precision of training and evaluation. `tf32` needs a CUDA GPU from Ampere on; so does `bf16` "
    "on a GPU.",
    "train.compile": "Compile the network with `torch.compile`; not together with `checkpointing`.",
    "train.checkpointing": "Keep only what is between the backbone's blocks; compute the rest again for the gradient.",
    "train.device": "`auto` (CUDA, else MPS, else CPU), or a device such as `cuda:1`.",
    "train.workers": "Processes that load images. 0: none beside the main one.",
    "train.save_steps": "Also save within an epoch, every so many steps. 0: only after each epoch.",
    "protocol.method": "`random` splits, the database's `official` split (`splits: 1`), or those of a `file`.",
    "protocol.unit": "What a random split keeps together. `auto`: references (scenes) where there are any, else "
    "images.",
    "protocol.splits": "Number of splits.",
    "protocol.parallel_splits": "Splits trained at the same time, each in its own process and on its own GPU.",
    "protocol.split_seed": "Seed of the random splits.",
    "protocol.train_fraction": "Share of images (or units) for training, the validation part included.",
    "protocol.validation_fraction": "Share for validation, taken from the training part. Below `train_fraction`; "
    "`random` splits only.",
    "protocol.selection": "Which epoch becomes `best.pt`: best SRCC on the test part (the release, optimistic), best "
    "SRCC on the validation part, or the last.",
    "logging.tensorboard": "Write event files for TensorBoard (`pip install tensorboard`).",
}


def settings_tables() -> str:
    """Return the Markdown tables of all keys, one per section."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    for key, schema in setting_schemas():
        rows.setdefault(key.split(".")[0], []).append(_row(key, schema))
    tables = {name: to_markdown(pd.DataFrame(section, columns=COLUMNS)) for name, section in rows.items()}
    return "\n\n".join(f"## {name}\n\n{SECTIONS[name]}\n\n{table}" for name, table in tables.items())


def setting_schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every key with its JSON schema."""
    for name, field in Config.model_fields.items():
        models = _models_in(field.annotation)
        if not models:
            yield name, Config.model_json_schema()["properties"][name]
            continue
        model = max(models, key=lambda each: len(each.model_fields))  # for a database, the one with all its keys
        for key, schema in model.model_json_schema()["properties"].items():
            yield f"{name}.{key}", schema


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _row(key: str, schema: dict[str, Any]) -> tuple[str, ...]:
    default = _yaml(schema["default"]) if "default" in schema else "required"
    allowed = "; ".join(dict.fromkeys(filter(None, map(_allowed, _alternatives(schema)))))
    types = dict.fromkeys(map(_type, _alternatives(schema)))
    return f"`{key}`", " or ".join(types), default, allowed, MEANINGS[key]


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of a union, or the schema itself."""
    return [one for each in schema["anyOf"] for one in _alternatives(each)] if "anyOf" in schema else [schema]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "section"
    if "enum" in schema or "const" in schema:
        return "choice"
    if schema.get("type") == "array":
        return f"list of {_type(_alternatives(schema['items'])[0])}s"
    return TYPES[schema["type"]]


def _allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        each = ", ".join(filter(None, map(_allowed, _alternatives(schema["items"]))))
        return f"each {each}" if each else ""
    if "pattern" in schema:
        return f"`{schema['pattern']}`"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " and ".join(f"{sign} {schema[bound]:g}" for bound, sign in signs.items() if bound in schema)


def _yaml(value: Any) -> str:
    """Return a default as YAML writes it."""
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, (list, tuple)):
        return f"`[{', '.join(_yaml(each).strip('`') for each in value)}]`"
    if value is None or isinstance(value, bool):
        return f"`{words[value]}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
