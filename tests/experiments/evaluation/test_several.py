"""Evaluations of several checkpoints: those of the release, those that fail, and the matrix of all there are."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock

from experiments.evaluation import evaluate as evaluation
from experiments.results import matrix
from experiments.results.matrix import read_results, write_matrix
from main import main
from models import build_model
from models.official import to_official
from tests.experiments.conftest import SMALL, results
from tests.running import ROOT, folder_of, train
from tests.written import evaluation_content
from utils.errors import UserError
from utils.files import to_json, write_text


@pytest.fixture
def release(tmp_path) -> Path:
    torch.manual_seed(0)
    torch.save(to_official(build_model().state_dict(), complete=True), tmp_path / "release.pth")
    return tmp_path / "release.pth"


@pytest.mark.slow
def test_a_release_checkpoint_needs_what_it_was_trained_with(release, evaluate, tmp_path, capsys):
    """Then the order of the databases does not matter, one of which is turned."""
    with pytest.raises(UserError, match=r"--trained-with configs/koniq10k\.yaml to main\.py"):
        evaluate(release, "bid")
    trained = tmp_path / "trained.yaml"
    trained.write_text(f"extends: {ROOT}/configs/koniq10k.yaml\ntransform: {{resize: 40, crop: 32}}\n")
    found = []
    for names in (("bid", "csiq"), ("csiq", "bid")):
        evaluate(release, *names, options=["--trained-with", str(trained)])
        found.append({name: results(tmp_path, name, "release")[0] for name in names})
    assert found[0] == found[1]
    assert [found[0][name]["turned"] for name in ("bid", "csiq")] == [False, True]
    assert found[0]["csiq"]["training_images"] == "unknown"
    assert "bid: all 12 images, training images unknown\n" in capsys.readouterr().out


def test_a_checkpoint_that_carries_its_config_takes_no_other(run, evaluate):
    with pytest.raises(UserError, match="contains the config that it was trained with; omit --trained-with"):
        evaluate(run / "best.pt", "bid", options=["--trained-with", str(ROOT / "configs" / "koniq10k.yaml")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trained-with", "a.yaml"], "--trained-with need --evaluate"),
        (["--evaluate", ""], "--evaluate has an empty name"),
        (["--evaluate", "a.pt", "--split", "2"], "--split needs --part test"),
        (["--evaluate", "a.pt", "--split", "2", "--part", "all"], "--split needs --part test"),
    ],
)
def test_options_that_would_be_ignored_are_refused(options, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(options)
    assert message in capsys.readouterr().err


def test_a_split_that_the_protocol_does_not_have_is_refused(run, evaluate):
    with pytest.raises(UserError, match="77 is not one of the splits 1 to 10"):
        evaluate(run / "best.pt", "bid", options=["--split", "77", "--part", "test", "protocol.splits=10"])


def test_what_fails_does_not_stop_the_others(quick, evaluate, tmp_path, monkeypatch, capsys):
    train(quick, "protocol.splits=3", "train.epochs=1")
    (folder_of(tmp_path, 2) / "best.pt").write_text("damaged")
    predict, calls = evaluation.predict, []

    def predict_once(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return predict(*arguments)

    monkeypatch.setattr(evaluation, "predict", predict_once)
    with pytest.raises(UserError, match=r"3 of 6 .*failed") as caught:
        evaluate(tmp_path / "runs", "bid", "csiq")
    assert "quick/split_01 on bid: out of memory (CUDA out of memory" in str(caught.value)
    assert "smaller train.batch_size" in str(caught.value)
    assert str(caught.value).count("split_02/best.pt is not a checkpoint") == 1
    cells = pd.read_csv(tmp_path / "out" / "matrix.csv").set_index(["metric", "database"])
    assert cells["splits"].loc["srcc"].to_dict() == {"bid": 1, "csiq": 2}
    assert "Traceback" not in capsys.readouterr().err


def write_result(output: Path, name: str, **said) -> None:
    write_text(output / name / "metrics.json", to_json(evaluation_content(**said)))


def test_the_matrix_is_of_every_result_in_the_folder(evaluate, run, tmp_path, capsys):
    evaluate(run / "best.pt", "bid")
    assert not (tmp_path / "out" / "matrix.md").exists()
    write_text(tmp_path / "out" / "old" / "metrics.json", "[]")
    evaluate(run / "best.pt", "csiq")
    cells = pd.read_csv(tmp_path / "out" / "matrix.csv")
    assert set(cells["database"]) == {"bid", "csiq"}
    assert "Not in the matrix: " in (tmp_path / "out" / "matrix.md").read_text()
    evaluate(run / "last.pt", "csiq")
    assert set(pd.read_csv(tmp_path / "out" / "matrix.csv")["run"]) == {"quick", "quick (last.pt)"}
    assert "| quick (last.pt) | – | " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "missing or damaged"),
        ("[1]", "an object is expected"),
        ('{"run": 1}', "has no version, and this code reads version 1"),
        (to_json(evaluation_content(run=1)), "run: Input should be an instance of str, got 1"),
        (to_json(evaluation_content(srcc="x")), "databases.bid.srcc: Input should be a valid number, got 'x'"),
    ],
)
def test_results_that_cannot_be_read_are_noted(content, message, tmp_path):
    write_result(tmp_path, "one", srcc=0.5)
    write_text(tmp_path / "two" / "metrics.json", content)
    found, notes = read_results(tmp_path)
    assert [result["srcc"] for result in found] == [0.5]
    assert len(notes) == 1
    assert str(tmp_path / "two" / "metrics.json") in notes[0]
    assert message in notes[0]


def test_marks_say_what_a_cell_is_of(tmp_path):
    """Own and foreign splits of one run share a cell and no mean; only the marks that are there are explained."""
    write_result(tmp_path, "1", srcc=0.8, plcc=0.8, own=True, optimistic=True, finished=True)
    write_result(tmp_path, "2", srcc=0.6, plcc=0.6, own=True)
    write_result(tmp_path, "3", srcc=0.2, plcc=0.2, own=False)
    write_result(tmp_path, "4", srcc=0.4, plcc=0.4, own=False, finished=False, checkpoint="a/split_04/best.pt")
    text = write_matrix(tmp_path)
    assert "| a | 0.8000*†; 0.6000*; 0.3000 ± 0.1414 |" in text
    assert "† the epoch was selected on these test images: optimistic." in text
    assert "Training not finished when evaluated: a/split_04/best.pt." in text
    assert "‡" not in text
    latex = (tmp_path / "matrix.tex").read_text()
    assert r"0.8000*$\dagger$; 0.6000*" in latex
    caption = next(line for line in latex.splitlines() if line.startswith(r"\caption{SRCC. Mean $\pm$"))
    assert r"$\dagger$ the epoch was selected on these test images" in caption
    write_result(tmp_path, "5", srcc=0.9, own=True, trained_on=3, database="csiq")
    assert "| 0.9000‡ |" in write_matrix(tmp_path)


def test_odd_names_in_the_matrix(tmp_path):
    """Of folders that were renamed by hand."""
    write_result(tmp_path, "1", srcc=0.5, run=os.fsdecode(b"**gr\xfcn**\n"))
    write_result(tmp_path, "2", srcc=0.5, run="b", finished=False, checkpoint="a\nb/best.pt")
    write_text(tmp_path / os.fsdecode(b"\xfc*") / "metrics.json", "{")
    text = write_matrix(tmp_path)
    assert r"| \*\*gr\\udcfcn\*\*\\n | 0.5000 |" in text.splitlines()
    assert r"Training not finished when evaluated: a\nb/best.pt." in text
    assert r"\\udcfc\*/metrics.json is missing or damaged" in (tmp_path / "matrix.md").read_text(encoding="utf-8")
    assert r"**gr\textbackslash{}udcfcn**\textbackslash{}n & 0.5000 \\" in (tmp_path / "matrix.tex").read_text()


def test_a_place_for_results_is_looked_at_before_anything_is_loaded(run, evaluate, quick, tmp_path):
    write_text(tmp_path / "out", "a file")
    with pytest.raises(UserError, match=r"out cannot be created: .*out is a file"):
        evaluate(run / "none.pt", "bid")  # which would be the next to be refused
    with pytest.raises(UserError, match=r"below/quick cannot be created: .*out is a file"):
        train(quick, f"run.root={tmp_path / 'out' / 'below'}", f"dataset.root={tmp_path / 'nowhere'}")


def test_a_column_of_different_databases_is_said_to_be_so(tmp_path):
    for number, labels in enumerate("aab"):
        write_result(tmp_path, str(number), srcc=0.5, database="csv", labels=labels)
    write_result(tmp_path, "3", srcc=0.5, labels="c")
    assert "Different labels under one title, not comparable: csv." in write_matrix(tmp_path)
    (tmp_path / "2" / "metrics.json").unlink()
    assert "different labels" not in write_matrix(tmp_path)


def test_a_matrix_that_another_process_writes_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "WAIT", 0.01)
    write_result(tmp_path, "1", srcc=0.8)
    with FileLock(tmp_path / ".matrix.lock"), pytest.raises(UserError, match="is being written by another process"):
        write_matrix(tmp_path)


def test_a_test_selected_epoch_is_said_to_be_optimistic(run, quick, tmp_path, capsys):
    overrides = [text for text in quick if text.startswith("dataset.")]
    command = ["--config", str(ROOT / "configs" / "koniq10k.yaml"), *overrides, *SMALL, "--output"]
    assert main(["--evaluate", str(run / "best.pt"), *command, str(tmp_path / "out")]) == 0
    assert "own split, epoch selected on these test images: optimistic" in capsys.readouterr().out
    assert results(tmp_path, "koniq10k")[0]["optimistic"] is True
    assert main(["--evaluate", str(run / "last.pt"), *command, str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/quick/split_01/last/koniq10k/metrics.json").read_text())["optimistic"] is False


def test_a_training_under_way_is_said_to_be_so(run, evaluate, tmp_path, capsys):
    (run / "metrics.json").unlink()
    evaluate(run / "best.pt", "bid")
    assert "bid: all 12 images, training not finished" in capsys.readouterr().out
    assert results(tmp_path, "bid")[0]["finished"] is False
