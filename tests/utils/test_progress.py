"""What long work says of its progress: a bar on a terminal, elsewhere a line now and then."""

import io
import re
import sys
import time

import pytest

from inference import main as score
from tests.processes import results
from tests.running import train
from tools.check_dataset import main as check
from utils import progress
from utils.distributed import rank
from utils.progress import Progress


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_minute(clock, capsys):
    lines = []
    with Progress("epoch 3/50", total=250, initial=50) as shown:
        for loss in range(200):
            clock[0] += 7
            shown.update(images=32, loss=loss)
            lines.append(capsys.readouterr().err)
    written = [(7 * number, line) for number, line in enumerate(lines, start=1) if line]
    assert [seconds for seconds, _ in written][:3] == [63, 126, 189]
    assert written[0][1] == "epoch 3/50: step 59/250, loss 8.000, 4.6 images/s, 22:17 left\n"
    assert len(written) == 200 // 9


@pytest.mark.parametrize(
    ("total", "line"), [(90, "image 20/90, 0.3 images/s, 03:30 left"), (None, "image 20, 0.3 images/s")]
)
def test_images_are_counted_where_they_are_the_unit(total, line, clock, capsys):
    with Progress("scoring", total, "image") as shown:
        clock[0] += 59.9
        shown.update(10)
        assert capsys.readouterr().err == ""  # short work says nothing
        clock[0] += 0.1
        shown.update(10)
    assert capsys.readouterr().err == f"scoring: {line}\n"


def test_work_that_is_not_on_images_has_no_rate(clock, capsys):
    with Progress("heads", 9, "head") as shown:
        clock[0] += 60
        shown.update(3, images=0)
    assert capsys.readouterr().err == "heads: head 3/9, 02:00 left\n"


def test_a_terminal_has_a_bar_and_no_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "INTERVAL", 0)
    with Progress("epoch 1/1", total=2) as shown:
        shown.update(loss=0.5)
        shown.bar.refresh()
        assert "1/2" in sys.stderr.getvalue()
        assert "loss=0.500" in sys.stderr.getvalue()
    assert "\n" not in sys.stderr.getvalue()


def test_training_and_evaluation_say_how_far_they_are(quick, capsys, monkeypatch):
    train(quick, "train.epochs=1")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "INTERVAL", 0)
    train(quick, "train.epochs=1", "--overwrite")
    *steps, evaluation = capsys.readouterr().err.splitlines()
    number = r"\d+\.\d"
    for step, line in enumerate(steps, start=1):
        assert re.fullmatch(rf"epoch 1/1: step {step}/4, loss {number}+, {number} images/s, \d\d:\d\d left", line)
    assert len(steps) == 4
    assert re.fullmatch(rf"evaluation: batch 1/1, {number} images/s, 00:00 left", evaluation)


def test_scoring_and_its_gallery_say_how_far_they_are(run, koniq_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0)
    options = ["--checkpoint", str(run / "best.pt"), "--device", "cpu", "--batch-size", "8", "--recursive"]
    page = ["--report", str(tmp_path / "page.html")]
    assert score([str(koniq_root), *options, "--output", str(tmp_path / "scores.csv"), *page]) == 0
    written = capsys.readouterr().err
    lines = re.findall(r"scoring: (image \d+/20), \d+\.\d images/s, \d\d:\d\d left\n", written)
    assert lines == ["image 8/20", "image 16/20", "image 20/20"]
    assert "report: image 20/20, " in written


def test_a_cache_and_a_check_say_how_far_they_are(quick, koniq_root, capsys, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0)
    train(quick, "train.epochs=1", "dataset.cache=ram")
    assert capsys.readouterr().err.count("cache of koniq10k: image ") == 20
    assert check(["--dataset", "koniq10k", "--root", str(koniq_root), "--no-picture"]) == 0
    assert capsys.readouterr().err.count("images: image ") == 20


def test_the_main_process_alone_says_it(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0)

    def said() -> str:
        sys.stderr = io.StringIO()
        with Progress("epoch 1/1", total=1) as shown:
            shown.update(images=8)
        return f"{rank()}: {sys.stderr.getvalue()}"

    of_main, of_other = results(said, tmp_path)
    assert of_main.startswith("0: epoch 1/1: step 1/1, ")
    assert of_other == "1: "
