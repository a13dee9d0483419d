"""Tiny made-up databases in the official formats, and settings with which a training takes seconds."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for the network; before anything imports the hub's package
# Before torch starts its threads, and for every process that a test starts: tiny networks are faster on one thread,
# and threads that wait must leave the cores to the other workers of pytest-xdist.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.hub import Hub, serve
from tests.running import ROOT, copy_run, folder_of, train

IMAGES = 20
KONIQ_SCORES = "koniq10k_scores_and_distributions.csv"

# Autograd counts the devices at its first use. Torch's compiler pretends that there is a GPU: counted after it, that
# one gets a thread, and then no test can fork a process that trains.
torch.zeros((), requires_grad=True).backward()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where no CUDA GPU is available."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    """Files are flushed so that they survive a loss of power, which no test is about; a process may be killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _in_the_repository():
    """Tests name configs as commands do, wherever pytest is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c():
    """As on a terminal: the background of a shell ignores it, and a test that interrupts itself would not notice."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _few_threads():
    """Tiny networks are faster on one thread; it also makes sums independent of the machine's cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _report_only_where_asked(request, monkeypatch):
    """Most tests train; a report takes longer than their training."""
    if request.node.get_closest_marker("with_report") is None:
        monkeypatch.setattr("main.print_report", lambda *_: None)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in for the Hugging Face hub, with an empty cache in tmp_path/cache and no waiting between attempts."""
    from huggingface_hub import constants  # noqa: PLC0415, most tests do without it

    server, address = serve()
    for name, value in {  # read from the environment when the package was imported
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no token"),
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():
        monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(
            f"huggingface_hub.file_download.{name}", value, raising=False
        )  # versions before 1.0 copy it
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server.hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def koniq_table() -> pd.DataFrame:
    """A votes table as KonIQ-10k writes it, of 20 images."""
    return make_koniq_table()


@pytest.fixture
def koniq_root(tmp_path: Path, koniq_table: pd.DataFrame) -> Path:
    """A folder like the unpacked KonIQ-10k, its images small: noise, the coarser the worse its MOS."""
    return write_koniq(tmp_path, koniq_table)


@pytest.fixture
def quick(koniq_root: Path, tmp_path: Path) -> list[str]:
    """Overrides of any config: the smallest training there is, everything under tmp_path."""
    return quick_overrides(koniq_root, tmp_path)


@pytest.fixture(scope="session")
def _trained(tmp_path_factory) -> Path:
    """The folder that the run of the fixture `run` is trained in, once."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("main.print_report", lambda *_: None)
        assert train(quick_overrides(write_koniq(folder, make_koniq_table()), folder)) == 0
    return folder


@pytest.fixture
def run(request, _trained: Path, quick: list[str], tmp_path: Path) -> Path:
    """The folder of a finished run of two epochs, a copy that the test may change."""
    copy_run(_trained, tmp_path)
    if request.node.get_closest_marker("with_report"):
        assert train(quick, "--resume") == 0  # writes the report that is missing
    return folder_of(tmp_path)


def make_koniq_table() -> pd.DataFrame:
    """The table of the fixture `koniq_table`."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(100, rng.dirichlet(np.ones(5), IMAGES))
    scores = np.arange(1, 6)
    mos = counts @ scores / 100
    sd = np.sqrt((counts * (scores - mos[:, None]) ** 2).sum(1) / 99)
    table = pd.DataFrame({"image_name": [f"{1000 + index}.jpg" for index in range(IMAGES)]})
    table[["c1", "c2", "c3", "c4", "c5"]] = counts
    return table.assign(c_total=100, MOS=mos.round(9), SD=sd.round(9), MOS_zscore=(20 * mos).round(8))


def write_koniq(folder: Path, table: pd.DataFrame) -> Path:
    """Write the database of the fixture `koniq_root` into `folder`."""
    root = folder / "koniq10k"
    (root / "1024x768").mkdir(parents=True)
    table.to_csv(root / KONIQ_SCORES, index=False)
    rng = np.random.default_rng(1)
    for name, mos in zip(table["image_name"], table["MOS"], strict=True):
        block = round(2 * (6 - mos))
        noise = Image.fromarray(rng.integers(0, 256, (48 // block + 1, 64 // block + 1, 3), dtype=np.uint8))
        noise.resize((64, 48), Image.Resampling.NEAREST).save(root / "1024x768" / name, quality=95)
    return root


def quick_overrides(root: Path, folder: Path) -> list[str]:
    """The overrides of the fixture `quick`: a database at `root`, runs under `folder`."""
    return [
        "run.name=quick",
        f"run.root={folder / 'runs'}",
        "dataset.name=koniq10k",
        f"dataset.root={root}",
        "transform.resize=40",
        "transform.crop=32",
        "model.backbone=cvt_nano",
        "model.pretrained=none",
        "train.epochs=2",
        "train.batch_size=4",
        "train.device=cpu",
        "train.workers=0",
        "protocol.splits=1",
        "protocol.unit=auto",
    ]
