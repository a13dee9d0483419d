"""Files that somebody has made to break, fill or take over the machine that reads them."""

import json
import os
import pickle
import re
import struct
import tarfile
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from datasets.decoding import load_image
from datasets.readers import read_records
from datasets.scale import RatingScale
from models.weights import load_network
from scoring.inputs import find_images
from scoring.pictures import open_picture
from tests.scoring.hostile import write_hostile_folder
from tests.torture.part import Outcome, Part
from tests.torture.sandbox import try_inputs
from utils.config import load_config
from utils.errors import UserError
from utils.files import read_json

MEMORY = 2**29  # bytes that a reader may take
SCALE = RatingScale(0, 100, (10, 30, 50, 70, 90))
SHEET = "xl/worksheets/sheet1.xml"

Read = Callable[[], object]


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable, *arguments: object):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


def _pickles(folder: Path) -> list[Read]:
    """Pickles that run code, or call what fills the memory; as files of torch of both kinds, and as they are."""
    calls = {
        "system": Call(os.system, f"touch {folder / 'ran'}"),
        "eval": Call(eval, "__import__('os').getpid()"),
        "open": Call(open, str(folder / "ran"), "w"),
        "getattr": Call(getattr, "a", "upper"),
        "bytearray": Call(bytearray, 2**34),
        "tensor": Call(torch.FloatTensor, 2**44),
    }
    paths = []
    for name, call in calls.items():
        for older in (False, True):
            paths.append(folder / f"{name}_{older}.pt")
            torch.save({"format": "richiqa", "model": call}, paths[-1], _use_new_zipfile_serialization=not older)
        for protocol in (0, 2, 5):
            paths.append(folder / f"{name}_{protocol}.pkl")
            paths[-1].write_bytes(pickle.dumps({"a": call}, protocol))
    return [lambda path=path: load_network(path) for path in paths]


def _checkpoints(folder: Path) -> list[Read]:
    """Checkpoints that state terabytes, are compressed, contain themselves or lead out of their archive."""
    torch.save({"stages.0": torch.zeros(1000)}, folder / "plain.pt")
    with zipfile.ZipFile(folder / "plain.pt") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, record in records.items():
            archive.writestr(name, b"\0" * 2**28 if name.endswith("data/0") else record)
    with zipfile.ZipFile(folder / "paths.pt", "w") as archive:
        for name, record in records.items():
            archive.writestr(f"../../{name}", record)
    terabytes = {"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    for name, length, header in (("size", None, terabytes), ("length", 2**62, terabytes), ("deep", None, None)):
        text = b'{"a":' * 10**5 if header is None else json.dumps(header).encode()
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", length or len(text)) + text)
    with tarfile.open(folder / "old.pt", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(entry)
    with open(folder / "sparse.pt", "wb") as file:
        file.truncate(2**42)
    names = ("bomb.pt", "paths.pt", "size.safetensors", "length.safetensors", "deep.safetensors", "old.pt", "sparse.pt")
    return [lambda name=name: load_network(folder / name) for name in names]


def _yaml(folder: Path) -> list[Read]:
    """YAML with tags, aliases that explode, and 10,000 levels."""
    laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    texts = [
        laughs,
        "a: &a [*a]",
        "a: &a {<<: *a}",
        "seed: " + "9" * 10**5,
        "a: " * 10**4,
        *(c * 10**4 for c in "[{-?&*!|>"),
    ]
    tags = (
        "python/object/apply:os.system [touch ran]",
        "python/module:os",
        "timestamp x",
        "binary x",
        "set {a}",
        "int x",
    )
    texts += [f"seed: !!{tag}" for tag in tags]
    texts += [f"extends: {name}" for name in ("/dev/zero", "CON", "21.yaml", "../" * 2000)]
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(text, encoding="utf-8")
    return [lambda number=number: load_config(folder / f"{number}.yaml") for number in range(len(texts))]


def _labels(folder: Path) -> list[Read]:
    """Label files whose names lead elsewhere, and tables, workbooks and MATLAB files that state too much."""
    names = (
        "../a.png",
        "/etc/passwd",
        "/dev/zero",
        "C:/CON",
        "a/../../b.png",
        "..\\a",
        "\\\\host\\a",
        "a\x1b[2Jb.png",
        "",
    )
    for number, name in enumerate(names):
        (folder / f"{number}.csv").write_text(f'image,mos\n"{name}",20\n', encoding="utf-8")
    with open(folder / "sparse.csv", "wb") as file:
        file.truncate(2**42)
    (folder / "wide.csv").write_bytes(b"image,mos\n" + b"," * 10**6)
    files = [f"{number}.csv" for number in range(len(names))] + ["sparse.csv", "wide.csv"]
    reads = [lambda name=name: read_records("csv", folder, False, labels=name, scale=SCALE) for name in files]
    for name, row, padding in (
        ("far", b'<row r="9999999999"><c r="XFD9999999999"><v>1</v></c></row>', 0),
        ("large", b"", 2**27),
    ):
        path = folder / name / "Annotations" / "MOS and Image attribute scores.xlsx"
        path.parent.mkdir(parents=True)
        pd.DataFrame({"Image name": ["a.png"]}).to_excel(path, index=False)
        with zipfile.ZipFile(path) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        parts[SHEET] = re.sub(rb"(?=</sheetData>)", row, parts[SHEET]) + b" " * padding
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in parts.items():
                archive.writestr(part, content)
        reads.append(lambda name=name: read_records("spaq", folder / name, False))
    data = folder / "clive" / "Data"
    data.mkdir(parents=True)
    packed = zlib.compress(struct.pack("<II", 14, 2**31) + b"\0" * 2**27)
    for name in ("AllImages_release", "AllMOS_release"):
        (data / f"{name}.mat").write_bytes(b" " * 124 + b"\0\1IM" + struct.pack("<II", 15, len(packed)) + packed)
    return [*reads, lambda: read_records("clive", data.parent, False)]


def _images(folder: Path) -> list[Read]:
    """The damaged half of a folder of a hundred hostile images, and a program in PostScript."""
    _, bad = write_hostile_folder(folder / "images")
    Image.new("RGB", (4, 4)).save(folder / "images" / "program.eps")
    names = sorted({*bad, "program.eps"})
    readers = (load_image, open_picture)
    return [lambda name=name, read=read: read(folder / "images" / name) for name in names for read in readers]


def _lists(folder: Path) -> list[Read]:
    """Lists and JSON files that state more than they are, or are nested without end."""
    (folder / "quotes.csv").write_bytes(b'image\n"' + b"a\n" * 10**6)
    (folder / "zeros.csv").write_bytes(b"\0" * 10**6)
    (folder / "deep.json").write_text("[" * 10**6, encoding="utf-8")
    with open(folder / "sparse.json", "wb") as file:
        file.truncate(2**42)
    options = {"images": [], "engine": "local", "map": None, "output": None, "image_column": None, "root": None}
    lists = [Namespace(**options, recursive=False, list=[str(folder / name)]) for name in ("quotes.csv", "zeros.csv")]
    return [
        *(lambda args=args: find_images(args) for args in lists),
        *(lambda name=name: read_json(folder / name) for name in ("deep.json", "sparse.json")),
    ]


KINDS = (_pickles, _checkpoints, _yaml, _labels, _images, _lists)


def _refused(read: Read) -> Read:
    def call() -> None:
        try:
            read()
        except UserError:
            raise
        raise AssertionError("it was read")

    return call


def _attempt(number: int, folder: Path, _prepared: Path) -> Outcome:
    kind = KINDS[number]
    before = set(Path.cwd().iterdir())
    reads = [_refused(read) for read in kind(folder)]
    found = try_inputs(len(reads), reads.__getitem__, folder, memory=MEMORY)
    problems = [f"{kind.__name__} {each}: {what}" for each, what in found.items()]
    if (folder / "ran").exists() or set(Path.cwd().iterdir()) != before:
        problems.append(f"{kind.__name__}: code was run")
    return Outcome(defect="; ".join(problems[:3]), figure=f"{kind.__name__[1:]}: {len(reads)} files")


PARTS = (
    Part(
        name="hostile_files",
        attack="pickles that run code, bombs, false sizes, names that lead elsewhere",
        holds="each is refused with a clear error, in 20 s and 0.5 GB; no code runs, no other file is opened",
        count=len(KINDS),
        attempt=_attempt,
    ),
)
