"""Several databases at once: labels, loss, training, reports, checkpoints, resuming."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.database import load_databases
from datasets.dataset import JoinedDataset
from datasets.readers import with_defaults
from experiments.evaluation.predict import joined_metrics
from experiments.results.lines import SUMMARY, split_summary
from experiments.training.selection import selections
from inference import load_predictor
from main import main
from tests.databases import write_database
from tests.running import first_split, train_losses
from utils.checkpoint import read_checkpoint
from utils.config import load_config
from utils.errors import UserError
from utils.files import to_json
from utils.metrics import score_metrics

NAMES = ("koniq10k", "csiq", "bid")


@pytest.fixture
def union(tmp_path) -> list[str]:
    """The command line of a small training on three databases, one of them with DMOS."""
    members = ", ".join(f"{{name: {name}, root: {write_database(name, tmp_path / name).root}}}" for name in NAMES)
    (tmp_path / "union.yaml").write_text(f"dataset: [{members}]\n")
    return [
        *("--config", str(tmp_path / "union.yaml"), "run.name=union", f"run.root={tmp_path / 'runs'}"),
        *("model.backbone=cvt_nano", "transform.resize=40", "transform.crop=32", "loss.units=acr", "loss.sos_a=fit"),
        *("train.epochs=2", "train.batch_size=8", "train.workers=0", "train.device=cpu", "protocol.splits=1"),
    ]


def config_of(union):
    return with_defaults(load_config(union[1], union[2:]))


def folder(tmp_path) -> Path:
    return tmp_path / "runs" / "union" / "split_01"


def test_bins_go_from_worst_to_best(union):
    config = config_of(union)
    koniq, csiq, bid = load_databases(config)
    assert [database.reversed_bins for database in (koniq, csiq, bid)] == [False, True, False]
    joined = JoinedDataset([db.dataset(sorted(db.records), config.transform) for db in (koniq, csiq, bid)])
    assert len(joined) == 12 + 30 + 12
    items = [joined[index, 0] for index in range(len(joined))]
    assert [item["database"].item() for item in items] == [0] * 12 + [1] * 30 + [2] * 12
    labels = {"koniq10k": koniq.records, "csiq": csiq.records, "bid": bid.records}
    for item in items:
        record = labels[NAMES[item["database"]]][item["name"]]
        worst_first = record.dos[::-1] if item["database"] == 1 else record.dos
        np.testing.assert_allclose(item["dos"], worst_first, atol=1e-7)
        assert item["mos"].item() == pytest.approx(record.mos)


def test_a_perfect_network_is_perfect_on_every_database(union):
    """Labels in the order of the network, turned back for the metrics."""
    config = config_of(union)
    for database in load_databases(config):
        names = sorted(database.records)
        dataset = database.dataset(names, config.transform)
        quantities = database.quantities(dataset.dos.double().numpy())
        np.testing.assert_allclose(quantities["dos"], database.targets(names)["dos"], atol=1e-6)
        np.testing.assert_allclose(quantities["mos"], database.scale.mean(database.targets(names)["dos"]), atol=1e-5)


def test_a_run(union, tmp_path, capsys):
    assert main(union) == 0
    output = capsys.readouterr().out
    for name in NAMES:
        assert f"{name}: sos_a" in output
        assert f"    {name:13} SRCC" in output
    table = pd.read_csv(folder(tmp_path) / "predictions.csv")
    split = json.loads((folder(tmp_path) / "split.json").read_text())["databases"]
    metrics = json.loads((folder(tmp_path) / "metrics.json").read_text())
    assert table["database"].unique().tolist() == list(NAMES) == list(split) == list(metrics["databases"])
    for name in NAMES:
        rows = table[table["database"] == name]
        assert rows["image"].tolist() == split[name]["test"]
        recomputed = score_metrics(rows["pred_mos"], rows["target_mos"])
        for key, value in recomputed.items():
            assert metrics["databases"][name][key] == pytest.approx(value, nan_ok=True), key
    assert metrics["srcc"] == pytest.approx(np.mean([metrics["databases"][name]["srcc"] for name in NAMES]))
    assert not {"rmse", "rmse_raw"} & metrics.keys()  # in units of three different scales
    assert re.search(r"noise ceiling .* koniq10k\n", output)
    assert {name for name, ceiling in metrics["noise_ceiling"].items() if ceiling} == {"koniq10k", "bid"}


def test_scales_and_weights_are_in_the_checkpoint_and_in_the_config_of_the_run(union, tmp_path):
    main([*union, "train.epochs=1", "dataset.1.weight=2.5"])
    saved = load_config(folder(tmp_path) / "config.yaml")
    checkpoint = read_checkpoint(folder(tmp_path) / "best.pt")["config"]
    assert checkpoint == saved.model_dump(mode="json")
    assert [member["title"] for member in checkpoint["dataset"]] == list(NAMES)
    assert [member["weight"] for member in checkpoint["dataset"]] == [1, 2.5, 1]
    assert checkpoint["dataset"][1]["scale"] == {
        **{"low": 0, "high": 1, "bin_centers": [0.1, 0.3, 0.5, 0.7, 0.9], "higher_is_better": False}
    }
    image = tmp_path / "koniq10k" / "1024x768" / "1000.jpg"
    prediction = load_predictor(folder(tmp_path) / "best.pt", device="cpu")(image)
    assert prediction.scale.describe() == "1 to 5, higher is better"


@pytest.mark.slow
def test_turned_bins_are_learned_better_than_unturned_ones(union):
    """Coarse noise has a low MOS in two of the databases, a high DMOS in the third: one rule once bins are turned."""
    scale = "dataset.1.scale={low: 0, high: 1, bin_centers: [0.1, 0.3, 0.5, 0.7, 0.9], higher_is_better: %s}"
    losses = []
    for higher_is_better in ("false", "true"):
        options = ["train.epochs=12", "optim.lr=2e-3", "schedule.name=onecycle", "model.drop_path=0"]
        epochs = train_losses(config_of([*union, *options, scale % higher_is_better]))
        losses.append(np.mean([epoch["total"] for epoch in epochs[-4:]]))
    assert losses[0] < 0.9 * losses[1]


@pytest.mark.slow
def test_resume_equals_uninterrupted(union, tmp_path, monkeypatch):
    main(union)
    whole = read_checkpoint(folder(tmp_path) / "last.pt")["model"]
    monkeypatch.setattr("main.tqdm.write", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))  # after the first epoch
    with pytest.raises(KeyboardInterrupt):
        main([*union, "--overwrite"])
    monkeypatch.undo()
    assert main([*union, "--resume"]) == 0
    again = read_checkpoint(folder(tmp_path) / "last.pt")["model"]
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_resume_refuses_other_settings_but_follows_a_moved_database(union, tmp_path):
    main([*union, "train.epochs=1"])
    with pytest.raises(UserError, match=r"started with other settings: dataset\.1\.weight: 1\.0 then, 2\.0 now"):
        main([*union, "train.epochs=1", "dataset.1.weight=2", "--resume"])
    (tmp_path / "csiq").rename(tmp_path / "moved")
    assert main([*union, "train.epochs=1", f"dataset.1.root={tmp_path / 'moved'}", "--resume"]) == 0


def test_splits_are_summed_up_for_each_database():
    rng = np.random.default_rng(0)
    splits = []
    for _ in range(2):
        test = joined_metrics({name: {metric: rng.uniform() for metric in SUMMARY} for name in NAMES})
        splits.append({"selections": selections([{"epoch": 1, "test": test}])})
    summary = split_summary(splits).partition("2 splits, mean")[2]
    assert [line.strip() for line in summary.splitlines() if "last (" in line] == [
        "last (the last epoch)",
        *(f"last (the last epoch), {name}" for name in NAMES),
    ]
    assert summary.count("RMSE") == 2 * len(NAMES)  # last and best on test of each, but no mean over scales


def test_a_saved_split_is_taken_again(union, tmp_path):
    main([*union, "train.epochs=1"])
    file = folder(tmp_path) / "split.json"
    files = [f"dataset.{number}.split_file={file}" for number in range(3)]
    again = first_split(config_of([*union, "protocol.method=file", *files]))
    saved = json.loads(file.read_text())
    assert json.loads(to_json(again.describe_origin())) == saved
    labels = []
    for database, split in zip(again.databases, again.splits, strict=True):
        ends = [database.scale.low, database.scale.high]
        best = ends if database.scale.higher_is_better else ends[::-1]
        labels += list(np.interp([database.records[name].mos for name in split.train], sorted(ends), np.argsort(best)))
    assert saved["train_mos"] == pytest.approx(np.percentile(labels, np.arange(101)), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scale.bin_centers=[1,3,5]"], "must have the same number of bins"),
        (["loss.sos_a=[0.1,0.2]"], "2 values for 3 databases"),
        (
            ["dataset.root=/data"],
            r"the command line: dataset is a list of 3; change an item by its number, such as dataset\.0\.root",
        ),
        (["dataset.3.root=/data"], "is a list of 3"),
        (["dataset.1.wheight=2"], r"unknown key 'dataset.1.wheight' \(did you mean 'weight'\?\)"),
        (["dataset.1.weight=0"], "greater than 0, got 0"),
        (["dataset.1.name=bid"], "bid given twice; set a different `title` for each"),
        (["dataset.1.name=csv"], "the rating scale of 'csv' is not known; give `scale` in the config"),
        (["dataset=[]"], "empty list; give at least one database"),
        (["protocol.method=official"], "do not say which part"),
    ],
)
def test_mistakes(arguments, message, union, tmp_path):
    with pytest.raises(UserError, match=message):
        main([*union, *arguments])
    assert not (tmp_path / "runs").exists()


def test_the_same_database_twice_with_titles(union):
    config = config_of(
        [*union, "dataset.1.name=bid", "dataset.1.title=bid again", f"dataset.1.root={Path(union[1]).parent / 'bid'}"]
    )
    assert [database.title for database in load_databases(config)] == ["koniq10k", "bid again", "bid"]


def test_weights_reach_the_loss(union):
    totals = []
    for weight in (1, 5):
        options = ["train.epochs=1", "train.batch_size=16", f"dataset.1.weight={weight}"]
        totals.append(train_losses(config_of([*union, *options]))[0]["dos"])
    assert totals[1] > 2 * totals[0]  # about 24 of 42 training images weigh five times as much


def test_one_database_alone_keeps_its_bins(tmp_path):
    """CSIQ, lower is better: without others beside it, bins go from the lowest score to the highest, as released."""
    root = write_database("csiq", tmp_path / "csiq").root
    config = load_config("configs/csiq.yaml", [f"dataset.root={root}"])
    (database,) = load_databases(config)
    names = sorted(database.records)
    dataset = database.dataset(names, config.transform)
    np.testing.assert_allclose(dataset.dos, database.targets(names)["dos"], atol=1e-6)
    dos = database.targets(names)["dos"]
    np.testing.assert_array_equal(database.quantities(dos)["dos"], dos)


def test_a_member_says_only_what_differs_of_its_scale(union):
    config = config_of([*union, "dataset.1.scale.bin_centers=[0, 0.25, 0.5, 0.75, 1]"])
    scale = config.dataset[1].scale
    assert (scale.low, scale.high, scale.higher_is_better) == (0, 1, False)
    assert scale.bin_centers == (0, 0.25, 0.5, 0.75, 1)


def test_a_csv_among_others_needs_a_whole_scale(union, tmp_path):
    root = write_database("csv", tmp_path / "csv").root
    member = ["dataset.1.name=csv", f"dataset.1.root={root}"]
    with pytest.raises(UserError, match="the rating scale of 'csv' is not known"):
        config_of([*union, *member, "dataset.1.scale.low=0"])
    config = config_of([*union, *member, "dataset.1.scale={low: 0, high: 100, bin_centers: [10,30,50,70,90]}"])
    assert load_databases(config)[1].scale.high == 100


def test_validation_of_those_databases_that_have_it(union, tmp_path):
    """CSIQ has five scenes, of which 0.1 is none; the others have a validation part of one image."""
    main([*union, "train.epochs=1", "protocol.validation_fraction=0.1"])
    log = json.loads((folder(tmp_path) / "log.jsonl").read_text().splitlines()[0])
    assert list(log["validation"]["databases"]) == ["koniq10k", "bid"]
    assert list(log["test"]["databases"]) == list(NAMES)


def test_which_database_an_error_is_of(union):
    with pytest.raises(UserError, match=r"csiq: dataset\.root: /nope is not a folder"):
        load_databases(config_of([*union, "dataset.1.root=/nope"]))
    with pytest.raises(UserError, match=r"unknown database 'csqi' \(did you mean 'csiq'\?\)"):
        config_of([*union, "dataset.1.name=csqi"])


@pytest.mark.usefixtures("union")
def test_a_config_that_extends_several_databases(tmp_path):
    (tmp_path / "child.yaml").write_text("extends: union.yaml\ndataset: {1: {weight: 3}}\n")
    assert [member.weight for member in load_config(tmp_path / "child.yaml").dataset] == [1, 3, 1]
    (tmp_path / "child.yaml").write_text("extends: union.yaml\ndataset: {7: {weight: 3}}\n")
    with pytest.raises(UserError, match=r"child\.yaml: dataset is a list of 3"):
        load_config(tmp_path / "child.yaml")
