"""Checkpoints on databases: which images, which scale, what is written, and the matrix."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datasets.database import load_databases
from datasets.scale import RatingScale
from experiments.evaluation.evaluate import checkpoint_label, find_checkpoints
from main import main
from tests.databases import write_database
from tests.experiments.conftest import SMALL, results
from tests.running import ROOT, train
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.metrics import score_metrics

DATA = "dataset.root={}/databases/bid"


def test_its_own_database_gives_the_metrics_of_the_training(run, quick, tmp_path, capsys):
    """Only the test images of its own split, whatever the config says of splits."""
    overrides = [text for text in quick if text.startswith("dataset.")]
    config = str(ROOT / "configs" / "koniq10k.yaml")
    output = ["--output", str(tmp_path / "out"), "protocol.split_seed=7"]
    assert main(["--evaluate", str(run / "last.pt"), "--config", config, *overrides, *SMALL, *output]) == 0
    assert "the 4 test images of the network's own split" in capsys.readouterr().out
    metrics, table = results(tmp_path, "koniq10k", "quick/split_01/last")
    trained = json.loads((run / "metrics.json").read_text())
    for name in ("srcc", "plcc", "krcc", "rmse", "emd", "jsd", "kl", "wasserstein", "sos_srcc"):
        assert metrics[name] == pytest.approx(trained[name], abs=1e-6), name
    pd.testing.assert_frame_equal(table, pd.read_csv(run / "predictions.csv"), atol=1e-6)
    command = ["--evaluate", str(run / "last.pt"), "--config", config, *overrides, *SMALL]
    with pytest.raises(
        UserError, match=r"contains results on other .*\(part auto then, all now\); choose another folder"
    ):
        main([*command, *output, "--part", "all"])
    main([*command, "--output", str(tmp_path / "all"), "--part", "all"])
    assert "all 20 images, of which the network was trained on 16" in capsys.readouterr().out


def test_another_database_is_scored_on_its_own_scale(run, evaluate, tmp_path):
    """Every image; scores where lower is better are turned, so that a positive correlation is a good one."""
    assert evaluate(run / "best.pt", "csiq") == 0
    metrics, table = results(tmp_path, "csiq")
    assert (metrics["turned"], metrics["own"], metrics["images"]) == (True, False, len(table))
    assert metrics["scale"] == {
        **{"low": 0, "high": 1, "higher_is_better": False},
        "bin_centers": [0.1, 0.3, 0.5, 0.7, 0.9],
    }
    shares = table[[f"pred_p{k}" for k in range(1, 6)]].to_numpy()
    np.testing.assert_allclose(table["pred_mos"], shares @ [0.1, 0.3, 0.5, 0.7, 0.9])
    for name, value in score_metrics(table["pred_mos"], table["target_mos"]).items():
        assert metrics[name] == pytest.approx(value), name
    low, high = metrics["intervals"]["csiq"]["srcc"]
    assert low <= metrics["srcc"] <= high


def test_test_part_of_another_database(run, evaluate, tmp_path):
    assert evaluate(run / "best.pt", "bid", options=["--part", "test"]) == 0
    config = load_config(tmp_path / "bid.yaml")
    (database,) = load_databases(config)
    assert results(tmp_path, "bid")[1]["image"].tolist() == [
        database.records[name].image for name in database.split(config, 1).test
    ]


def test_bins_are_matched_by_order_and_rulers_where_their_numbers_differ(tmp_path):
    (database,) = load_databases(
        load_config(ROOT / "configs" / "csiq.yaml", [f"dataset.root={write_database('csiq', tmp_path / 'c').root}"])
    )
    acr, ten = RatingScale(1, 5, (1, 2, 3, 4, 5)), RatingScale(1, 10, tuple(range(1, 11)))
    best = database.for_network(acr).quantities(np.eye(5)[[4]])
    assert best["mos"] == pytest.approx([0.1])  # DMOS of the best bin
    assert best["dos"].tolist() == [[1, 0, 0, 0, 0]]
    ruled = database.for_network(ten).quantities(np.array([np.eye(10)[9], np.full(10, 0.1)]))
    assert ruled["mos"] == pytest.approx([0, 0.5])
    assert ruled["sos"] == pytest.approx([0, np.arange(10).std() / 9])
    assert "dos" not in ruled
    uneven = RatingScale(0, 10, (1, 9))  # an opinion of 9 of 10, the best, is a DMOS of 0.1
    assert database.for_network(uneven).quantities(np.eye(2)[[1]])["mos"] == pytest.approx([0.1])
    lopsided = RatingScale(0, 10, (2, 9))
    assert database.for_network(lopsided).quantities(np.eye(2))["mos"] == pytest.approx([0.8, 0.1])
    upward = RatingScale(0, 1, (0.1, 0.3, 0.5, 0.7, 0.9), higher_is_better=False)
    assert database.for_network(upward).quantities(np.eye(5)[[4]])["mos"] == pytest.approx([0.9])


def test_a_network_with_other_bins_has_no_distribution_metrics(run, tmp_path):
    (tmp_path / "custom").mkdir()
    votes = pd.DataFrame({"image": [f"{n}.png" for n in range(8)], "mos": np.linspace(1, 3, 8), "sos": 0.4})
    votes.to_csv(tmp_path / "custom" / "labels.csv", index=False)
    for name in votes["image"]:
        Image.new("RGB", (40, 40)).save(tmp_path / "custom" / name)
    assert (
        main(
            [
                *("--evaluate", str(run / "best.pt"), "--config", str(ROOT / "configs/custom.yaml")),
                *(f"dataset.root={tmp_path / 'custom'}", "scale.low=1", "scale.high=3", "scale.bin_centers=[1,2,3]"),
                *(*SMALL, "--output", str(tmp_path / "out")),
            ]
        )
        == 0
    )
    metrics, table = results(tmp_path, "csv")
    assert "emd" not in metrics
    assert "pred_p1" not in table
    assert table["pred_mos"].between(1, 3).all()


def test_the_matrix(quick, evaluate, tmp_path, capsys):
    train(quick, "protocol.splits=2", "train.epochs=1")
    assert evaluate(tmp_path / "runs", "bid", "csiq") == 0
    output = capsys.readouterr().out
    cells = pd.read_csv(tmp_path / "out" / "matrix.csv").set_index(["metric", "database"])
    values = [results(tmp_path, "bid", f"quick/split_0{n}")[0]["srcc"] for n in (1, 2)]
    cell = cells.loc[("srcc", "bid")]
    assert (cell["run"], cell["splits"], cell["own"]) == ("quick", 2, False)
    assert [cell["mean"], cell["std"]] == pytest.approx([np.mean(values), np.std(values, ddof=1)])
    assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in output
    assert "| SRCC, trained on | bid | csiq |" in (tmp_path / "out" / "matrix.md").read_text()
    assert r"\toprule" in (tmp_path / "out" / "matrix.tex").read_text()


def test_mistakes(run, evaluate, tmp_path, quick, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"contains no split_NN/best\.pt"):
        find_checkpoints(tmp_path / "empty")
    with pytest.raises(MissingFileError, match=r"checkpoint .* does not exist"):
        evaluate(tmp_path / "none.pt", "bid")
    with pytest.raises(UserError, match="bid given twice"):
        evaluate(run / "best.pt", "bid", options=["--config", str(ROOT / "configs/bid.yaml"), DATA.format(tmp_path)])
    evaluate(run / "best.pt", "bid")
    monkeypatch.chdir(run)
    evaluate("best.pt", "bid")  # the same file, said in another way
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["quick"]
    train(quick, f"run.root={tmp_path / 'elsewhere'}", "train.epochs=1")
    with pytest.raises(UserError, match=r"contains results of .*choose another folder with --output"):
        evaluate(tmp_path / "elsewhere" / "quick" / "split_01" / "best.pt", "bid")


def write_csv(root, seed):
    """A database of one's own and its config, without a title."""
    root.mkdir()
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"image": [f"{n}.png" for n in range(8)], "mos": rng.uniform(1.5, 4.5, 8), "sos": 0.5})
    table.to_csv(root / "labels.csv", index=False)
    for name in table["image"]:
        Image.new("RGB", (40, 40)).save(root / name)
    config = root.with_suffix(".yaml")
    config.write_text(f"extends: {ROOT}/configs/custom.yaml\ndataset:\n  root: {root}\n")
    return config


def test_results_on_two_databases_with_the_same_name_are_kept_apart(run, tmp_path, capsys):
    one, two = (write_csv(tmp_path / name, seed) for seed, name in enumerate(("one", "two")))
    command = ["--evaluate", str(run / "best.pt"), *SMALL, "--output", str(tmp_path / "out"), "--config"]
    assert main([*command, str(one)]) == 0
    before = results(tmp_path, "csv")[0]
    with pytest.raises(
        UserError, match=r"csv contains results on other images or labels \(root .*/one then, .*/two now"
    ):
        main([*command, str(two)])
    for labels in ("mos", "image"):  # changed, or fewer
        table = pd.read_csv(tmp_path / "one" / "labels.csv")
        changed = table.assign(mos=table["mos"] + 0.1) if labels == "mos" else table[1:]
        changed.to_csv(tmp_path / "one" / "labels.csv", index=False)
        with pytest.raises(UserError, match=r"images or labels \(labels \w+ then, \w+ now\); .*another dataset\.title"):
            main([*command, str(one)])
        table.to_csv(tmp_path / "one" / "labels.csv", index=False)
    for split in ("1", "2"):
        with pytest.raises(UserError, match=r"part auto then, test now; split None then"):
            main([*command, str(one), "protocol.splits=2", "--part", "test", "--split", split])
    assert results(tmp_path, "csv")[0] == before
    assert main([*command, str(one)]) == 0  # the same again
    with pytest.raises(UserError, match=r"csv given twice; .*a different dataset\.title"):
        main([*command, str(one), str(two)])
    two.write_text(f"{two.read_text()}  title: Two\n")
    assert main([*command, str(one), str(two)]) == 0
    assert set(pd.read_csv(tmp_path / "out" / "matrix.csv")["database"]) == {"csv", "Two"}
    assert "Different labels" not in capsys.readouterr().out


def test_a_checkpoint_says_what_it_was_trained_on(run):
    split = json.loads((run / "split.json").read_text())
    for name in ("best.pt", "last.pt"):
        assert read_checkpoint(run / name)["split"] == split


def test_labels_of_results(tmp_path):
    assert str(checkpoint_label(tmp_path / "a" / "split_02" / "best.pt")) == "a/split_02"
    assert str(checkpoint_label(tmp_path / "a" / "split_02" / "last.pt")) == "a/split_02/last"
    assert str(checkpoint_label(tmp_path / "mine.pth")) == "mine"


def test_a_checkpoint_that_does_not_tell_is_taken_as_foreign(run, quick, tmp_path, capsys):
    content = read_checkpoint(run / "best.pt")
    del content["split"], content["format"], content["version"]
    save_checkpoint(tmp_path / "old.pt", content)
    assert torch.load(tmp_path / "old.pt", weights_only=True).keys() == {*content, "format", "version"}
    overrides = [text for text in quick if text.startswith("dataset.")]
    config = str(ROOT / "configs" / "koniq10k.yaml")
    main(["--evaluate", str(tmp_path / "old.pt"), "--config", config, *overrides, *SMALL, f"run.root={tmp_path}"])
    assert "all 20 images" in capsys.readouterr().out
    assert (tmp_path / "evaluations" / "old" / "koniq10k" / "metrics.json").exists()
