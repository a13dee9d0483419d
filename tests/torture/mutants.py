"""Faults put into the code one at a time, each of which must turn a test red."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.torture.part import Outcome, Part

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        name: What it breaks.
        file: Product file.
        before: Text that occurs once in the file.
        after: What takes its place.
        tests: Arguments of pytest that select the tests of which one must fail.
    """

    name: str
    file: str
    before: str
    after: str
    tests: str


MUTANTS = (
    # the network
    Mutant("attention scale", "models/cvt.py", "width**-0.5", "(width / heads) ** -0.5", "tests/models/test_parity.py"),
    Mutant("stride of keys", "models/cvt.py", "self.conv_k = ConvProjection(width, stride=2)",
           "self.conv_k = ConvProjection(width, stride=1)", "tests/models/test_parity.py"),
    Mutant("flattening order of the memory", "models/memory.py", "return x.flatten(1).unflatten(1, (-1, width))",
           "return x.transpose(1, 2).flatten(1).unflatten(1, (-1, width))", "tests/models/test_memory.py"),
    Mutant("gradient of the long-term memory", "models/memory.py", "with torch.no_grad():", "with torch.enable_grad():",
           "tests/models/test_memory.py"),
    Mutant("features without normalisation", "models/richiqa.py", "self.algorithmic(F.normalize(features, dim=1))",
           "self.algorithmic(features)", "tests/models/test_models.py"),
    Mutant("folded BatchNorm", "models/fused.py", "(norm.running_var.cpu().double() + norm.eps)",
           "norm.running_var.cpu().double()", "tests/models/test_fused.py"),
    # labels and losses
    Mutant("bin centres", "datasets/scale.py", "return (dos * centers).sum(-1)",
           "return (dos * (centers + 0.5)).sum(-1)", "tests/datasets/test_scale.py tests/losses"),
    Mutant("bin of an edge", "datasets/scale.py", 'side="left"', 'side="right"', "tests/datasets"),
    Mutant("ddof of the SOS of votes", "datasets/labels.py", "(voters / (voters - 1) if voters else 1)", "1",
           "tests/datasets/test_labels.py"),
    Mutant("EMD exponent", "losses/terms.py", "safe_sqrt((difference**2).mean(-1))", "difference.abs().mean(-1)",
           "tests/losses"),
    Mutant("units of the loss", "losses/joint.py", "weight * unit**2", "weight * unit", "tests/losses"),
    Mutant("target of the SOS", "losses/joint.py", 'if self.sos_target == "label":', 'if self.sos_target != "label":',
           "tests/losses"),
    # protocol and training
    Mutant("split rounding", "datasets/splits.py", "train_end = round(protocol.train_fraction * len(keys))",
           "train_end = int(protocol.train_fraction * len(keys))", "tests/datasets/test_splits.py"),
    Mutant("validation in the test part", "datasets/splits.py", "fit_end = train_end -", "fit_end = len(keys) -",
           "tests/datasets/test_splits.py"),
    Mutant("drop_last", "datasets/loader.py", "drop_last=train", "drop_last=False",
           "tests/datasets tests/test_main.py"),
    Mutant("mirrored crop", "datasets/transforms.py", "left = room - left if mirrored else left", "left = left",
           "tests/datasets/test_dataset.py"),
    Mutant("cache key", "datasets/cache.py", '            "resize": size,\n', "", "tests/datasets/test_cache.py"),
    Mutant("BatchNorm mode in evaluation", "experiments/evaluation/predict.py", "fused_model(model.eval(), precision)",
           "fused_model(model.train(), precision)", "tests/experiments/evaluation"),
    Mutant("mode of training after an evaluation", "experiments/training/step.py", "    state.model.train()\n",
           "", "tests/test_resume.py tests/experiments/training"),
    Mutant("resume offset", "experiments/training/step.py", "state.step * config.train.batch_size)",
           "(state.step + 1) * config.train.batch_size)", "tests/test_resume.py"),
    Mutant("temperature on the wrong side", "experiments/training/calibration.py", "/ temperature\n",
           "* temperature\n", "tests/experiments/training/test_calibration.py"),
    Mutant("gradients that are not clipped", "experiments/training/state.py",
           "nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)", "pass",
           "tests/experiments/training/test_state.py"),
    # metrics and statistics
    Mutant("logistic start", "utils/metrics.py", "(*ends, pred.mean(), FIT_START_SLOPE), ", "",
           "tests/utils/test_metrics.py"),
    Mutant("tie handling", "utils/metrics.py", "plcc(rankdata(x), rankdata(y))",
           'plcc(rankdata(x, "ordinal"), rankdata(y, "ordinal"))', "tests/utils/test_metrics.py"),
    Mutant("ties within a resample", "utils/bootstrap.py", "groups.cumsum(1) - groups + (groups + 1) / 2",
           "groups.cumsum(1) - groups + 1", "tests/utils/test_bootstrap.py"),
    Mutant("interval side", "utils/bootstrap.py", "[(1 - LEVEL) / 2, ", "[1 - LEVEL, ",
           "tests/utils/test_bootstrap.py"),
    Mutant("correction of the t test", "experiments/results/statistics.py", "(1 / splits + test_share)", "(1 / splits)",
           "tests/experiments/results"),
    # scoring
    Mutant("good or better on reversed scales", "scoring/opinions.py", "above=scale.higher_is_better", "above=True",
           "tests/scoring/test_opinions.py"),
    Mutant("an image that is given twice", "scoring/done_images.py", "repetition >= self._rows(hashes)",
           "self._rows(hashes) == 0", "tests/scoring/test_done_images.py"),
    Mutant("batches after a resume", "scoring/output.py", "position // batch_size * batch_size, whole",
           "position, kept", "tests/scoring/test_resuming.py"),
    Mutant("escape in HTML", "utils/html.py", "autoescape=True", "autoescape=False",
           "tests/experiments/results tests/scoring/gallery"),
    # files
    Mutant("checksum", "utils/checksum.py", "        _compare(file, size - len(ZEROS))", "        pass",
           "tests/utils/test_checksum.py"),
    Mutant("older states", "experiments/training/run_folder.py", "epoch - count < older", "epoch - count <= older",
           "tests/experiments/training/test_keep.py"),
    Mutant("first module that is not finite", "experiments/training/nonfinite.py",
           'if found["module"] is None and not', "if not", "tests/experiments/training/test_nonfinite.py"),
    Mutant("size of tensors that --half keeps", "models/export.py", "SMALL = 200_000", "SMALL = 300_000",
           "tests/tools/test_export.py"),
    Mutant("programs in images", "datasets/decoding.py", "            _require_no_program(image)", "            pass",
           "tests/datasets/test_decoding.py"),
    Mutant("limit of a file that grows", "utils/files.py", "if max(size, len(content)) > limit:", "if size > limit:",
           "tests/utils/test_files.py"),
    Mutant("weights that are not finite", "models/weights.py", "    _require_finite(model.state_dict(), source)",
           "    pass", "tests/models/test_hostile_weights.py"),
)  # fmt: skip


def prepare(folder: Path) -> None:
    """Copy the files that git knows, and check that all tests pass without a fault.

    Raises:
        RuntimeError: They do not, so a red test would show nothing.
    """
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT).decode()
    for name in listed.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    status, output = run_tests(folder, sorted({test for mutant in MUTANTS for test in mutant.tests.split()}))
    if status:
        raise RuntimeError(f"tests fail without any fault (status {status}): {output}")


def mutant_is_noticed(number: int, folder: Path, prepared: Path) -> Outcome:
    """Put one fault into a copy of the project and run its tests there."""
    mutant, copy = MUTANTS[number], folder / "copy"
    shutil.copytree(prepared, copy)
    path = copy / mutant.file
    code = path.read_text(encoding="utf-8")
    path.write_text(code.replace(mutant.before, mutant.after), encoding="utf-8")
    status, output = run_tests(copy, mutant.tests.split())
    if status == 0:
        return Outcome(f"{mutant.name}: not noticed by {mutant.tests}")
    if status not in (1, 2):  # a test failed; one could not be imported
        return Outcome(f"{mutant.name}: pytest ended with status {status}: {output}")
    return Outcome()


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Return the status of pytest up to the first failure, and the end of what it says."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout[-500:]


PARTS = (
    Part(
        "mutants",
        "faults put into the code, one at a time",
        "a test turns red",
        len(MUTANTS),
        mutant_is_noticed,
        prepare,
    ),
)
