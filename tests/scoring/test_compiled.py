"""`inference.py --compile`: the scores of the network as it is, one compiling, errors of the compiler in one line."""

import numpy as np
import pandas as pd
import pytest
import torch

from inference import load_predictor, main
from models import compiling as compiling_module
from models.compiling import CompiledScorer, compiling
from utils.errors import UserError


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """Of the batches that the compiled network is given; nothing is compiled."""
    found = []

    def uncompiled(function, **_):
        def run(images):
            found.append(len(images))
            return function(images)

        return run

    monkeypatch.setattr(compiling_module.torch, "compile", uncompiled)
    return found


class Means(torch.nn.Linear):
    def forward(self, images):
        return images.mean((1, 2, 3))[:, None]


def test_batches_are_filled_up_to_one_size(sizes):
    scorer = CompiledScorer(Means(1, 1), "compile")
    scorer.expect(2)
    for count in (3, 1, 4, 2, 5):
        images = torch.rand(count, 3, 4, 5)
        assert torch.equal(scorer(images), images.mean((1, 2, 3))[:, None])
    assert sizes == [4, 4, 4, 4, 6]


def rows(photos, output, *options) -> pd.DataFrame:
    arguments = [str(photos), "--device", "cpu", "--batch-size", "4", "--output", str(output), *options]
    assert main(arguments) == 3  # two are damaged
    return pd.read_csv(output)


def assert_same_rows(photos, checkpoint, tmp_path, precision="fp32", tolerance=1e-4) -> None:
    options = ["--checkpoint", str(checkpoint), "--precision", precision]
    plain, compiled = (
        rows(photos, tmp_path / f"{name}.csv", *options, *more) for name, more in (("a", []), ("b", ["--compile"]))
    )
    numbers = plain.select_dtypes("number").columns
    assert "mos" in numbers
    np.testing.assert_allclose(compiled[numbers], plain[numbers], atol=tolerance)
    others = plain.columns.difference(numbers)
    pd.testing.assert_frame_equal(compiled[others], plain[others])


def test_the_command_line_passes_it_on(photos, checkpoint, sizes, tmp_path):
    assert_same_rows(photos, checkpoint, tmp_path)
    assert sizes == [2, 4, 4, 4]  # two numbers for a trial, then pictures, of which two are damaged


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.02)])
def test_rows_of_a_compiled_network(precision, tolerance, photos, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    assert_same_rows(photos, checkpoint, tmp_path, precision, tolerance)


def test_pictures_of_any_size_are_refused(checkpoint):
    with pytest.raises(
        UserError, match=r"compile: .* one image size, and preprocess full has no fixed size; choose one"
    ):
        load_predictor(checkpoint, device="cpu", preprocess="full", compiled=True)


def test_a_machine_without_a_compiler_says_so(checkpoint, monkeypatch):
    def no_compiler(*_, **__):
        raise RuntimeError("No working C++ compiler found\n in any of the known places")

    monkeypatch.setattr(compiling_module.torch, "compile", no_compiler)
    with pytest.raises(UserError, match=r"^compile: .* \(No working C\+\+ .*\)\. It needs .* omit compile$"):
        load_predictor(checkpoint, device="cpu", compiled=True)


def test_what_the_compiler_says_of_damaged_files_is_one_line():
    def backend(*_):
        raise ImportError("a.main.so: cannot read file data")

    function = torch.compile(lambda x: x.sin() + 1, backend=backend)
    with (
        pytest.raises(UserError, match=r"^train\.compile: .*a\.main\.so: cannot read file data\). It .*CACHE_DIR.*$"),
        compiling("train.compile"),
    ):
        function(torch.zeros(2))
