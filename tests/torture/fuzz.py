"""A million damaged inputs for the readers of files and texts from elsewhere."""

import contextlib
import os
import shutil
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from datasets.decoding import load_image
from datasets.readers import read_records
from datasets.scale import RatingScale
from datasets.splits import read_split
from models import build_model
from models.weights import load_network
from scoring.conditions import RowFilter
from scoring.inputs import find_images
from scoring.pictures import PictureSettings, open_picture
from scoring.scale_text import parse_scale
from tests.databases import OFFICIAL, WRITERS
from tests.torture.mutations import Change, in_header, in_zip, mat_elements, mutated, png_chunks
from tests.torture.part import Outcome, Part
from tests.torture.sandbox import Input, try_inputs
from utils.checkpoint import save_checkpoint, to_safetensors
from utils.config import load_config
from utils.delimited import decode, parse_table
from utils.errors import UserError
from utils.hub import parse_address
from utils.settings import Config

HOLDS = "each is read or refused with a clear error, in 20 s and 1 GB; no code runs, no other file is opened"
SCORES = RatingScale(0, 100, (10, 30, 50, 70, 90))
FIELDS = ("path", "mos", "mos_01", "sos", "p1", "p2", "gob", "pow", "width", "height", "notes", "error")
ROW = {"path": "a.png", "mos": 3.5, "mos_01": "0.6", "sos": 0.7, "p1": 0, "p2": 1, "gob": 0.1, "pow": 0, "error": None}
LIST_OPTIONS = Namespace(
    images=[], engine="local", map=None, output=None, image_column=None, root=None, recursive=False
)
CONFIGS = (
    b"run:\n  name: a\ndataset:\n  name: csv\n  root: data/x\n  sos_a: fit\noptim: {lr: 1e-5, name: adamw}\nseed: 7\n",
    b"x-base: &base\n  resize: 64\n  crop: 48\ntransform:\n  <<: *base\n  damage: .5\nscale:\n  low: 0\n  high: 100\n",
    b"extends: parent.yaml\ndataset:\n- {name: bid, root: a}\n- name: clive\n  weight: 2.5\n",
    b'model:\n  backbone: "cvt_nano"\n  stages: [1, 2]\n  pixel_mean: [0.5, .5, 5e-1]\n  pretrained: ~\nseed: 010\n',
)
OVERRIDES = (
    *(b"optim.lr=3e-5", b"dataset.0.root=a b", b"scale.bin_centers=[1, 2, 3]", b"model.stages=all", b"x.y.z={a: 1}"),
)
CONDITIONS = (
    *(b"mos_01 > .6 and pow < .1", b"not (gob / p1 >= 1e3) or -sos <= +mos * 2 - 1", b"0 < p1 < 0.2 != mos_01"),
)
TEXTS = (
    *(
        b"1,5:1,2,3,4,5",
        b"acr",
        b"0,100:lower",
        b"hf://owner/name@main",
        b"https://huggingface.co/a/b/tree/x",
        b"#808080",
    ),
)
LISTS = (
    *(b"a.png\nb c.jpg\n# comment\n\n../d.png\n", b"image,mos\na.png,3\n'b', 4\n", b"a.png\0b\nc.png\0"),
    *(b'path\tx\n"a\n"\t1', b"image,mos,sos\na.png,1.5,2\n", b"sep=;\na;b\n1;2\n"),
)
PICTURES = ("gif", "bmp", "webp", "tga", "ppm", "ico", "pcx", "sgi", "eps", "jp2", "avif", "dds", "icns")
COMPRESSIONS = ("raw", "tiff_lzw", "jpeg", "tiff_deflate", "packbits")


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Args:
        inputs: What it is, for the table.
        count: Inputs of the long version.
        seeds: Writes valid inputs into an empty folder, with what is read beside them.
        read: Reads one of these files after it was damaged.
        changes: Changes that know the format.
        suffixes: Those of the files that are damaged.
        allowed: Audit events that are allowed.
        chunk: Inputs of one attempt.
    """

    inputs: str
    count: int
    seeds: Callable[[Path], None]
    read: Callable[[Path], object]
    changes: Sequence[Change] = ()
    suffixes: tuple[str, ...] = ("",)
    allowed: tuple[str, ...] = ()
    chunk: int = 2_000


def _texts(texts: Sequence[bytes], folder: Path) -> None:
    for number, text in enumerate(texts):
        (folder / f"{number}.csv").write_bytes(text)


def _configs(folder: Path) -> None:
    for number, text in enumerate(CONFIGS):
        (folder / f"{number}.yaml").write_bytes(text)
    (folder / "parent.yaml").write_text("seed: 3\ntrain: {epochs: 2, batch_size: 4}\n", encoding="utf-8")


def _databases(folder: Path) -> None:
    for name in (*OFFICIAL, "csv"):
        with patch("tests.databases.picture", _make_folder):
            WRITERS[name](folder / name)


def _make_folder(path: Path, *_picture: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)


def _read_labels(path: Path) -> None:
    root = next(parent for parent in path.parents if parent.parent.name == "inputs")
    labels = {} if root.name in OFFICIAL else {"scale": SCORES, "labels": str(path)}
    if path.suffix in (".csv", ".txt", ".xlsx") and root.name in ("koniq10k", "spaq", "flive", "livemd"):
        labels["labels"] = path.name  # not the first of several
    read_records(root.name, root, check_images=False, **labels)


def _splits(folder: Path) -> None:
    for name, text in {
        "a.json": '{"train": ["a.png", "b.png"], "test": ["c.png"], "validation": []}',
        "b.json": '[{"a.png": "train", "b.png": "test", "c.png": "val"}, {}]',
        "c.csv": "image,split\na.png,train\nb.png,test\nc.png,test\n",
        "labels.csv": "image,mos\na.png,20\nb.png,30\nc.png,40\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")


def _read_split(path: Path) -> None:
    read_split(read_records("csv", path.parent, False, labels="labels.csv", scale=SCORES), path)


def _checkpoints(folder: Path) -> None:
    config = Config.model_validate({"model": {"backbone": "cvt_nano"}})
    with torch.device("meta"):
        shapes = build_model(config.model, 5).state_dict()
    weights = {name: torch.zeros((), dtype=each.dtype).expand(each.shape) for name, each in shapes.items()}
    plain = config.model_dump(mode="json")
    content = {"config": plain, "scale": plain["scale"], "model": weights, "epoch": 3}
    save_checkpoint(folder / "network.pt", content)
    few = {name: weights[name].clone() for name in list(weights)[:3]}
    save_checkpoint(folder / "few.pt", {**content, "model": few, "average": few, "split": {"version": 1}})
    torch.save({"state_dict": few, "epoch": 1}, folder / "foreign.pth")
    torch.save({"module.stage0.x": torch.arange(4.0), "fc.weight": torch.ones(2, 3)}, folder / "release.pth")
    older = {"cvt.encoder.stages.0.layers.0.x": torch.ones(2)}
    torch.save(older, folder / "older.bin", _use_new_zipfile_serialization=False)
    (folder / "few.safetensors").write_bytes(to_safetensors(few, plain, split={"version": 1}))


def _pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "a.jpg", exif=exif, icc_profile=b"profile", comment=b"x")
    rgb.save(folder / "progressive.jpg", progressive=True)
    rgb.save(folder / "b.png", exif=exif)
    rgb.quantize(16).save(folder / "c.png", transparency=3)
    Image.fromarray(rng.integers(0, 2**16, (9, 7)).astype(np.uint16)).save(folder / "deep.png")
    for suffix in PICTURES:
        if f".{suffix}" not in Image.registered_extensions():
            continue  # AVIF before Pillow 11.3
        rgb.save(folder / f"d.{suffix}")
    rgb.save(folder / "frames.gif", save_all=True, append_images=[rgb.rotate(90)])
    for compression in COMPRESSIONS:
        rgb.save(folder / f"{compression}.tif", compression=compression, exif=exif)


def _each(*readers: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a reader that calls several, of which any may refuse the file."""

    def read(path: Path) -> None:
        for reader in readers:
            with contextlib.suppress(UserError):
                reader(path)

    return read


def _text(path: Path) -> str:
    return os.fsdecode(path.read_bytes())


TARGETS = {
    "override": Target(
        "overrides of configs", 60_000, partial(_texts, OVERRIDES), lambda path: load_config(None, [_text(path)])
    ),
    "config": Target("configs", 60_000, _configs, load_config, suffixes=(".yaml",)),
    "condition": Target(
        *("conditions of `--keep`", 260_000, partial(_texts, CONDITIONS)),
        lambda path: RowFilter(_text(path), FIELDS).holds(ROW),
        allowed=("compile",),  # Python parses them, and runs nothing
    ),
    "text": Target(
        *("rating scales, addresses, colours", 200_000, partial(_texts, TEXTS)),
        _each(
            lambda path: parse_scale(_text(path)),
            lambda path: parse_address(_text(path)),
            lambda path: PictureSettings(background=_text(path)),
        ),
    ),
    "list": Target(
        *("lists of images", 260_000, partial(_texts, LISTS)),
        _each(
            lambda path: find_images(Namespace(**vars(LIST_OPTIONS), list=[str(path)])),
            lambda path: parse_table(decode(path.read_bytes(), "a.csv"), "a.csv"),
        ),
    ),
    "split": Target("split files", 10_000, _splits, _read_split, chunk=500),
    "labels": Target(
        *("label files of text", 30_000, _databases, _read_labels), suffixes=(".csv", ".txt", ".json"), chunk=500
    ),
    "workbook": Target(
        *("label files, .xls and .xlsx", 10_000, _databases, _read_labels, (in_zip(members="sheet|shared|workbook"),)),
        suffixes=(".xlsx", ".xls"),
        chunk=500,
    ),
    "matlab": Target(
        "label files, .mat", 40_000, _databases, _read_labels, (mat_elements,), suffixes=(".mat",), chunk=1_000
    ),
    "checkpoint": Target(
        *("checkpoints", 20_000, _checkpoints, load_network, (in_zip(), in_zip(members="pkl"), in_header)), chunk=500
    ),
    "picture": Target("images", 60_000, _pictures, _each(load_image, open_picture), (png_chunks,), chunk=1_000),
}


def write_seeds(name: str, folder: Path) -> None:
    """Write the valid inputs of a kind into a folder, once for all attempts."""
    (folder / "inputs").mkdir()
    TARGETS[name].seeds(folder / "inputs")


def fuzz(name: str, start: int, count: int, folder: Path, prepared: Path) -> dict[int, str]:
    """Try inputs of a kind, numbered from `start`; return what broke by number, and leave these inputs in `folder`."""
    target = TARGETS[name]
    shutil.copytree(prepared / "inputs", folder / "inputs")
    files = (path for path in sorted((folder / "inputs").rglob("*")) if path.is_file())
    contents = {path: path.read_bytes() for path in files if path.name.endswith(target.suffixes)}
    paths = list(contents)
    for path in paths:
        with contextlib.suppress(UserError):
            target.read(path)  # modules are imported before the children start

    def damage(number: int) -> Path:
        random = Random(f"{name} {start + number}")
        path = random.choice(paths)
        alike = [content for other, content in contents.items() if other.suffix == path.suffix]
        path.write_bytes(mutated([contents[path], contents[path], *alike], random, target.changes))
        return path

    changed: list[Path] = []

    def make(number: int) -> Input:
        for path in changed:
            path.write_bytes(contents[path])
        changed[:] = [damage(number)]
        return partial(target.read, changed[0])

    found = try_inputs(count, make, folder, target.allowed)
    for number in found:
        path = damage(number)
        shutil.move(path, folder / f"{number}_{path.name}")
    shutil.rmtree(folder / "inputs")
    return found


def _attempt(name: str, number: int, folder: Path, prepared: Path) -> Outcome:
    chunk = TARGETS[name].chunk
    found = fuzz(name, number * chunk, chunk, folder, prepared)
    (folder / "problems.txt").write_text("\n".join(f"{each}: {what}" for each, what in found.items()), encoding="utf-8")
    return Outcome(defect=f"{len(found)} inputs, such as {next(iter(found.items()))}" if found else "")


PARTS = tuple(
    Part(
        name=f"fuzz_{name}",
        attack=f"damaged {target.inputs}",
        holds=HOLDS,
        count=target.count // target.chunk,
        attempt=partial(_attempt, name),
        prepare=partial(write_seeds, name),
        inputs=target.chunk,
    )
    for name, target in TARGETS.items()
)
