"""Trains and evaluates RichIQA: `python main.py [--config FILE] [key.subkey=value ...] [--resume] [--split N]`."""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from utils.installation import require_installation

require_installation()

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.database import Database, load_databases, with_scales
from datasets.iqa import batches
from datasets.labels import fit_sos_a
from datasets.loaders import EvaluatedPart, build_loaders
from datasets.splits import Split
from losses import JointLoss
from models import build_model
from models.pretrained import load_pretrained
from utils.config import load_config
from utils.errors import UserError, one_line
from utils.optim import TrainingState
from utils.report import (
    epoch_line,
    joined_metrics,
    joined_predictions,
    predictions_table,
    results_lines,
    summary_of_splits,
)
from utils.run_folder import RunFolder
from utils.runtime import Interruption, derive_seed, pick_device, run_script, seed_everything
from utils.selection import file_epoch, final_metrics
from utils.settings import Config

DEMO_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
INTERRUPTED = 130
TARGETS = ("mos", "sos", "dos", "database")


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    config = with_scales(load_config(args.config, args.overrides))
    numbers = [args.split] if args.split else list(range(1, config.protocol.splits + 1))
    if numbers[-1] > config.protocol.splits:
        raise UserError(f"--split: {args.split} is not one of the splits 1 to {config.protocol.splits}")
    folders = {number: RunFolder.of(config, number) for number in numbers}
    if not args.overwrite:
        for folder in folders.values():
            folder.require_leave(config, args.resume)
    device = pick_device(config.train.device)
    databases = load_databases(config)
    for database in databases:
        print(f"{database.title}: {database.recipe.describe()}")
    print(f"{config.run.name}: {config.model.backbone} on {device}")
    with Interruption() as interruption:
        for number, folder in folders.items():
            splits = tuple(database.split(config, number) for database in databases)
            run_split(SplitRun(config, number, databases, splits, folder, interruption), device, args.resume)
            if args.overwrite and args.split is None:
                for other in folder.other_splits():
                    if other not in folders.values():
                        other.delete()
            if folder.finished:
                print(f"split {number} is finished, see {folder.path}\n{results_lines(folder.metrics())}")
            if interruption.requested and not (folder.finished and number == numbers[-1]):
                print("interrupted; everything is saved, and --resume goes on from there")
                return INTERRUPTED
    if len(folders) > 1:
        print(summary_of_splits([folder.metrics() for folder in folders.values()]))
    if folder.best.exists():
        print(f"score an image with it: python inference.py IMAGE --checkpoint {folder.best}")
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train and evaluate RichIQA. Without --config: the demo.", allow_abbrev=False
    )
    parser.add_argument("--config", default=DEMO_CONFIG, help="YAML file of the experiment")
    parser.add_argument("--resume", action="store_true", help="go on where the run of this name stopped")
    parser.add_argument("--overwrite", action="store_true", help="delete the run of this name and start anew")
    parser.add_argument("--split", type=int, metavar="N", help="run only this split, counted from 1")
    parser.add_argument("overrides", nargs="*", metavar="key.subkey=value", help="settings that replace the file's")
    args = parser.parse_intermixed_args(arguments)
    if args.split is not None and args.split < 1:
        parser.error("--split counts from 1")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite contradict each other")
    return args


@dataclass(frozen=True)
class SplitRun:
    """One split of a run: what it is trained on and where it is written."""

    config: Config
    number: int
    databases: tuple[Database, ...]
    splits: tuple[Split, ...]
    folder: RunFolder
    interruption: Interruption

    def describe_origin(self) -> dict:
        """What split.json says: the names of each part, and how the labels were made; of several databases by title."""
        origins = {
            database.title: {**split.as_dict(), "labels": {**asdict(database.recipe), "hash": database.hash}}
            for database, split in zip(self.databases, self.splits, strict=True)
        }
        return {"databases": origins} if self.config.several else origins[self.databases[0].title]


def run_split(run: SplitRun, device: torch.device, resume: bool) -> None:
    """Trains and evaluates one split, unless it is finished; where it is interrupted, everything is saved."""
    config, folder = run.config, run.folder
    resuming = resume and (folder.finished or folder.resumable)
    if resuming:
        folder.require_same_data(run.describe_origin())
        if folder.finished:
            return
    seed = derive_seed(config.seed, run.number)
    seed_everything(seed)
    model = build_model(config.model, len(config.scale.bin_centers))
    require_size(model, config)
    loss = build_loss(run)
    train_loader, parts = build_loaders(config, run.databases, run.splits, seed, pin_memory=device.type == "cuda")
    if not resuming:
        print(f"split {run.number}: {load_pretrained(model, config.model)}")
    state = TrainingState(model.to(device), config, len(train_loader))
    with folder.held():
        if resuming:
            folder.restore(state)
            print(f"split {run.number}: goes on after epoch {state.epoch}, step {state.step}")
        else:
            folder.begin(config, run.describe_origin())
        predicted = {}
        while state.epoch < config.train.epochs:
            if not train_epoch(state, train_loader, loss, run):
                return
            predicted = finish_epoch(state, parts, run)
        test = parts["test"]
        write_results(state, test, predicted.get("test") or predict_parts(state.scored_model, test), run)


def finish_epoch(state: TrainingState, parts: dict[str, list[EvaluatedPart]], run: SplitRun) -> dict[str, list]:
    """Evaluates the epoch, files it, saves, says a line on the terminal; returns the predicted DOS of each part."""
    predicted = {name: predict_parts(state.scored_model, of_databases) for name, of_databases in parts.items()}
    metrics = {
        name: joined_metrics(
            {
                part.database.title: part.database.metrics(part.names, dos)
                for part, dos in zip(of_databases, predicted[name], strict=True)
            }
        )
        for name, of_databases in parts.items()
    }
    record = file_epoch(state, metrics, run.config.protocol.selection)
    run.folder.save_epoch(run.config, state)
    tqdm.write(epoch_line(record, run.config.train.epochs))
    return predicted


def write_results(state: TrainingState, parts: list[EvaluatedPart], predicted: list[np.ndarray], run: SplitRun) -> None:
    """Predictions of every test image after the last epoch, metrics, and the noise ceiling of the labels."""
    tables, ceilings = {}, {}
    for part, dos in zip(parts, predicted, strict=True):
        images = [part.database.records[name].image for name in part.names]
        quantities, targets = part.database.quantities(dos), part.database.targets(part.names)
        tables[part.database.title] = predictions_table(images, quantities, targets)
        ceilings[part.database.title] = part.database.ceiling(part.names)
    run.folder.finish(joined_predictions(tables), final_metrics(state, run.config, ceilings))


def require_size(model: torch.nn.Module, config: Config) -> None:
    """Refuses an image size that the backbone cannot take, before anything is written."""
    crop = config.transform.crop
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, crop, crop))
    except (RuntimeError, AssertionError, ValueError) as error:  # what torch and timm say of a size
        raise UserError(
            f"transform.crop: {config.model.backbone} cannot take images of {crop} pixels ({one_line(error)}); use "
            "another size"
        ) from error


def build_loss(run: SplitRun) -> JointLoss:
    """The loss of the config; `sos_a: fit` is fitted on the labels of the database's training part."""
    config = run.config
    given = config.loss.sos_a
    sos_a = list(given) if isinstance(given, tuple) else [given] * len(run.databases)
    for number, (database, split) in enumerate(zip(run.databases, run.splits, strict=True)):
        if sos_a[number] == "fit":
            labels = database.targets(split.train)
            sos_a[number] = fit_sos_a(labels["mos"], labels["sos"], database.scale)
            print(f"{database.title}: sos_a {sos_a[number]:.4f}, fitted on the training part")
    scales = [database.scale for database in run.databases]
    return JointLoss(
        scales if config.several else scales[0],
        database_weights=[database.weight for database in run.databases],
        **{**config.loss.model_dump(), "sos_a": sos_a},
    )


def train_epoch(state: TrainingState, loader: DataLoader, loss: JointLoss, run: SplitRun) -> bool:
    """Trains to the end of the epoch under way; False where it was interrupted, with everything saved."""
    config = run.config
    state.model.train()
    loader.sampler.set_position(state.epoch, state.step * config.train.batch_size)
    begun = time.monotonic() - state.seconds
    title, steps = f"epoch {state.epoch + 1}/{config.train.epochs}", state.step + len(loader)
    with tqdm(batches(loader), title, steps, leave=False, initial=state.step, disable=None) as bar:
        for batch in bar:
            target = {key: batch[key].to(state.device, non_blocking=True) for key in TARGETS}
            terms = loss(state.model(batch["image"].to(state.device, non_blocking=True)), target)
            values = {name: term.item() for name, term in terms.items()}
            require_finite(values, state, batch["name"])
            state.update(terms["total"], values)
            state.seconds = time.monotonic() - begun
            bar.set_postfix(loss=f"{state.mean_losses()['total']:.3f}")
            interrupted = run.interruption.requested
            if interrupted or (config.train.save_steps and state.step % config.train.save_steps == 0):
                run.folder.save(config, state)
            if interrupted:
                return False
    return True


def predict_parts(model: torch.nn.Module, parts: list[EvaluatedPart]) -> list[np.ndarray]:
    """Predicted DOS (N, K) of a part of each database."""
    return [predict(model, part.loader) for part in parts]


@torch.inference_mode()
def predict(model: torch.nn.Module, loader: DataLoader) -> np.ndarray:
    """Predicted DOS (N, K), float64, of every image of a loader, in its order."""
    device = next(model.parameters()).device
    model.eval()
    loader.sampler.set_position(epoch=0)
    predicted = [
        model(batch["image"].to(device, non_blocking=True)).cpu().double()
        for batch in tqdm(batches(loader), "evaluation", len(loader), leave=False, disable=None)
    ]
    predicted = torch.cat(predicted).numpy()
    if not np.isfinite(predicted).all():
        raise UserError(
            "the network predicts values that are not finite; start again with a smaller optim.lr or with "
            "optim.clip_norm=1"
        )
    return predicted


def require_finite(values: dict[str, float], state: TrainingState, names: list[str]) -> None:
    """Stops a training whose loss is not a number, before the weights are touched."""
    if not all(math.isfinite(value) for value in values.values()):
        terms = ", ".join(f"{name} {value}" for name, value in values.items())
        raise UserError(
            f"the loss is not finite in epoch {state.epoch + 1}, step {state.step + 1}: {terms}; images: "
            f"{', '.join(names)}. Start again with a smaller optim.lr or with optim.clip_norm=1"
        )


if __name__ == "__main__":
    run_script(main)
