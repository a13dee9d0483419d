"""The parts of benchmarks/gpu_all.sh, run small on the CPU so that no slip is found only where a GPU is."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import PARTS, main
from benchmarks.gpu.training import FAST, WAYS
from benchmarks.rows import Measured, Rows, speed
from tests.running import ROOT

WAYS_ON_CPU = [name for name in WAYS if name != "tf32"]


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Run a part small and return its rows by name; nothing is compiled, which takes minutes."""

    def run(part: str) -> dict[str, dict]:
        monkeypatch.setattr(torch, "compile", lambda network, **_: network)
        assert main([part, "--output", str(tmp_path), "--small"]) == 0
        found = [json.loads(line) for line in (tmp_path / f"{part}.jsonl").read_text().splitlines()]
        assert len({row["name"] for row in found}) == len(found)
        return {row["name"]: row for row in found}

    return run


@pytest.mark.slow
def test_parity_is_near_float64(measure):
    found = measure("parity")
    assert found["dos_fp32"]["dos"] < 2e-6
    assert found["dos_optimised_fp32"]["dos"] < 1e-5
    assert 0 < found["dos_optimised_bf16"]["mos_percent"] < 0.5
    assert found["adam"]["largest_relative_difference_of_losses"] < 1e-4
    assert found["gradients"]["largest_relative_difference_of_norms"] < 0.02
    assert found["product_bf16"]["tflop_per_s"] > 0


@pytest.mark.slow
def test_inference_is_measured_in_every_way(measure):
    found = measure("inference")
    names = {f"{way}_batch_{batch}" for way in ("peer_fp32", "peer_bf16", "fp32", "bf16") for batch in (1, 4, 6)}
    assert names <= found.keys()
    for row in found.values():
        low, high = row.get("images_per_s_spread", (1, 1))
        assert 0 < low <= high
    compiled = measure("inference_compiled")["bf16_compiled_batch_6"]
    assert 0 < compiled["images_per_s_spread"][0] <= compiled["images_per_s"]


@pytest.mark.slow
def test_training_is_measured_in_every_way(measure):
    found = measure("training")
    names = {*(f"{way}_batch_4" for way in WAYS_ON_CPU), "adam_fused", "adam_default"}
    assert names <= found.keys()
    assert found[f"{FAST}_batch_4"]["graph_breaks"] == measure("training_large")[f"{FAST}_batch_6"]["graph_breaks"] == 0


@pytest.mark.slow
def test_precisions_agree_after_the_same_steps(measure):
    found = measure("agreement")
    assert found["fp32"]["mean_of_last"] < found["fp32"]["first_loss"]
    assert 0 < found["agreement"]["relative_difference"] < 0.05


@pytest.mark.slow
def test_an_epoch_is_measured_through_main(measure):
    found = measure("epoch")
    assert found["main"]["status"] == 0
    assert found["epochs"]["images"] == 10 // 4 * 4
    assert found["protocol"]["hours"] == pytest.approx(
        500 / 3600 * (8058 / found["training"]["images_per_s"] + 2015 / found["evaluation"]["images_per_s"])
    )


@pytest.mark.slow
def test_the_costliest_kernels_are_listed_in_order(measure):
    found = measure("profile")
    taken = [found[f"kernel_{place}"]["milliseconds"] for place in range(1, 11)]
    assert taken == sorted(taken, reverse=True)
    assert taken[0] <= found["step"]["busy_milliseconds"]


def test_rows_are_written_one_by_one(tmp_path):
    rows = Rows(tmp_path / "part.jsonl")
    rows.add("one", ms=[3.0, 1.0, 2.0])
    assert json.loads((tmp_path / "part.jsonl").read_text()) == {"name": "one", "ms": 2.0, "ms_spread": [1.0, 3.0]}


def test_speed_is_in_images_and_in_percent_of_the_ceiling():
    assert speed([100.0], batch=10, gflop=50, ceiling=100) == {"images_per_s": [100.0], "of_ceiling": [5.0]}


def test_the_script_names_parts_that_exist():
    script = (ROOT / "benchmarks" / "gpu_all.sh").read_text()
    parts = {line.split()[1] for line in script.splitlines() if line.startswith("part ")}
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert parts == PARTS.keys()
    subprocess.run(["bash", "-n", str(Path("benchmarks") / "gpu_all.sh")], cwd=ROOT, check=True)


def test_a_row_holds_medians_ratio_and_spread():
    row = Measured("a", "what", "peer", "s", [1.0, 2.0, 4.0], [3.0, 3.0, 4.0]).as_row()
    assert (row["ours"], row["peer"], row["ratio"], row["spread"]) == (2.0, 3.0, 1.5, [1.0, 3.0])
    alone = Measured("a", "what", "", "s", [1.0, 2.0, 4.0]).as_row()
    assert (alone["peer"], alone["ratio"], alone["spread"]) == (None, None, [1.0, 4.0])
