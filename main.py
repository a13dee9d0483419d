"""Trains and evaluates RichIQA: `python main.py [--config FILE] [key.subkey=value ...] [--resume] [--split N]`."""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from utils.installation import require_installation

require_installation()

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.database import Database, load_database
from datasets.iqa import batches, make_loader
from datasets.labels import fit_sos_a
from datasets.splits import Split, make_split
from datasets.transforms import build_test_transform, build_train_transform
from losses import JointLoss
from models import build_model
from models.pretrained import load_pretrained
from utils.config import load_config
from utils.errors import UserError, one_line
from utils.optim import TrainingState
from utils.report import epoch_line, predictions_table, results_lines, summary_of_splits
from utils.run_folder import RunFolder
from utils.runtime import Interruption, derive_seed, environment, pick_device, run_script, seed_everything
from utils.settings import Config

DEMO_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    config = load_config(args.config, args.overrides)
    numbers = [args.split] if args.split else list(range(1, config.protocol.splits + 1))
    if numbers[-1] > config.protocol.splits:
        raise UserError(f"--split: {args.split} is not one of the splits 1 to {config.protocol.splits}")
    folders = {number: RunFolder.of(config, number) for number in numbers}
    if not args.overwrite:
        for folder in folders.values():
            folder.require_leave(config, args.resume)
    device = pick_device(config.train.device)
    database = load_database(config)
    print(f"{config.run.name}: {database.describe()}; {config.model.backbone} on {device}")
    with Interruption() as interruption:
        for number, folder in folders.items():
            run_split(config, database, number, folder, device, args.resume, interruption)
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


def run_split(
    config: Config,
    database: Database,
    number: int,
    folder: RunFolder,
    device: torch.device,
    resume: bool,
    interruption: Interruption,
) -> None:
    """Trains and evaluates one split, unless it is finished; where it is interrupted, everything is saved."""
    split = make_split(list(database.records.values()), config.protocol, number)
    origin = {**split.as_dict(), "labels": {**asdict(database.recipe), "hash": database.hash}}
    resuming = resume and (folder.finished or folder.resumable)
    if resuming:
        folder.require_same_data(origin)
        if folder.finished:
            return
    seed = derive_seed(config.seed, number)
    seed_everything(seed)
    model = build_model(config.model, database.scale.num_bins)
    require_size(model, config)
    loss = build_loss(config, database, split)
    train_loader, loaders = build_loaders(config, database, split, seed, device)
    if not resuming:
        print(f"split {number}: {load_pretrained(model, config.model)}")
    state = TrainingState(model.to(device), config, len(train_loader))
    with folder.held():
        if resuming:
            folder.restore(state)
            print(f"split {number}: goes on after epoch {state.epoch}, step {state.step}")
        else:
            folder.begin(config, origin)
        train_split(state, train_loader, loaders, loss, database, config, folder, interruption)


def train_split(
    state: TrainingState,
    train_loader: DataLoader,
    loaders: dict[str, DataLoader],
    loss: JointLoss,
    database: Database,
    config: Config,
    folder: RunFolder,
    interruption: Interruption,
) -> None:
    """Trains from where the state is to the last epoch, evaluating after each, and writes the results."""
    predicted = {}
    while state.epoch < config.train.epochs:
        if not train_epoch(state, train_loader, loss, config, folder, interruption):
            return
        predicted = {part: predict(state.scored_model, loader) for part, loader in loaders.items()}
        finish_epoch(state, {part: database.metrics(*pair) for part, pair in predicted.items()}, config, folder)
    names, dos = predicted.get("test") or predict(state.scored_model, loaders["test"])
    folder.finish(
        predictions_table(names, database.quantities(dos), database.targets(names)), final_metrics(state, config)
    )


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


def build_loss(config: Config, database: Database, split: Split) -> JointLoss:
    """The loss of the config; `sos_a: fit` is fitted on the training part's labels."""
    settings = config.loss.model_dump()
    if config.loss.sos_a == "fit":
        labels = database.targets(split.train)
        settings["sos_a"] = fit_sos_a(labels["mos"], labels["sos"], database.scale)
        print(f"sos_a {settings['sos_a']:.4f}, fitted on the training part")
    return JointLoss(database.scale, **settings)


def build_loaders(
    config: Config, database: Database, split: Split, seed: int, device: torch.device
) -> tuple[DataLoader, dict[str, DataLoader]]:
    """The training loader, and those of the parts that are evaluated."""
    size = config.train.batch_size
    if size > len(split.train):
        raise UserError(
            f"train.batch_size: {size} is more than the {len(split.train)} training images; make it smaller"
        )
    options = {"workers": config.train.workers, "pin_memory": device.type == "cuda"}
    train = database.dataset(split.train, build_train_transform(config.transform))
    loaders = {
        part: make_loader(database.dataset(names, build_test_transform(config.transform)), size, **options)
        for part, names in (("validation", split.validation), ("test", split.test))
        if names
    }
    return make_loader(train, size, seed=seed, train=True, **options), loaders


def train_epoch(
    state: TrainingState,
    loader: DataLoader,
    loss: JointLoss,
    config: Config,
    folder: RunFolder,
    interruption: Interruption,
) -> bool:
    """Trains to the end of the epoch under way; False where it was interrupted, with everything saved."""
    state.model.train()
    loader.sampler.set_position(state.epoch, state.step * config.train.batch_size)
    begun = time.monotonic() - state.seconds
    title, steps = f"epoch {state.epoch + 1}/{config.train.epochs}", state.step + len(loader)
    with tqdm(batches(loader), title, steps, leave=False, initial=state.step, disable=None) as bar:
        for batch in bar:
            images, *labels = (batch[key].to(state.device, non_blocking=True) for key in ("image", "mos", "sos", "dos"))
            terms = loss(state.model(images), dict(zip(("mos", "sos", "dos"), labels, strict=True)))
            values = {name: term.item() for name, term in terms.items()}
            require_finite(values, state, batch["name"])
            state.update(terms["total"], values)
            state.seconds = time.monotonic() - begun
            bar.set_postfix(loss=f"{state.mean_losses()['total']:.3f}")
            if interruption.requested or (config.train.save_steps and state.step % config.train.save_steps == 0):
                folder.save(config, state)
            if interruption.requested:
                return False
    return True


@torch.inference_mode()
def predict(model: torch.nn.Module, loader: DataLoader) -> tuple[list[str], np.ndarray]:
    """Names and predicted DOS (N, K), float64, of every image of a loader."""
    device = next(model.parameters()).device
    model.eval()
    loader.sampler.set_position(epoch=0)
    names, dos = [], []
    for batch in tqdm(batches(loader), "evaluation", len(loader), leave=False, disable=None):
        names += batch["name"]
        dos.append(model(batch["image"].to(device, non_blocking=True)).cpu().double())
    predicted = torch.cat(dos).numpy()
    if not np.isfinite(predicted).all():
        raise UserError(
            "the network predicts values that are not finite; start again with a smaller optim.lr or with "
            "optim.clip_norm=1"
        )
    return names, predicted


def finish_epoch(state: TrainingState, metrics: dict[str, dict], config: Config, folder: RunFolder) -> None:
    """Files the epoch, saves, and says a line on the terminal."""
    record = {
        "epoch": state.epoch + 1,
        "lr": state.optimizer.param_groups[0]["lr"],
        "train": state.mean_losses(),
        **metrics,
        "seconds": state.seconds,
    }
    state.finish_epoch(record)
    if state.best is None or is_better(record, state.best, config.protocol.selection):
        state.best = record
    folder.save_epoch(config, state)
    tqdm.write(epoch_line(record, config.train.epochs))


def is_better(record: dict, best: dict, selection: str) -> bool:
    """Whether selection prefers an epoch: by SRCC on test (`release`), on validation, or simply the later one."""
    if selection == "last":
        return True
    part = "test" if selection == "release" else "validation"
    ours, theirs = record[part]["srcc"], best[part]["srcc"]
    return ours > theirs or (math.isnan(theirs) and not math.isnan(ours))


def final_metrics(state: TrainingState, config: Config) -> dict:
    """Metrics of the last epoch, of the selected one, and what they cost."""
    return {
        **state.history[-1]["test"],
        "epoch": state.epoch,
        "selection": config.protocol.selection,
        "selected_epoch": state.best["epoch"],
        "selected": state.best["test"],
        "seconds": sum(record["seconds"] for record in state.history),
        "environment": environment(),
    }


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
