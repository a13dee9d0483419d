"""Tiny made-up copies of every database, in the official layout and the real file formats."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xlwt
from PIL import Image
from scipy.io import savemat

from datasets.demo import write_demo

DISTORTIONS = {"noise": "AWGN", "jpeg": "JPEG", "jpeg 2000": "jpeg2000", "fnoise": "fnoise", "blur": "BLUR"} | {
    "contrast": "contrast"
}
CSIQ_FOLDERS = {"AWGN": "awgn", "BLUR": "blur", "JPEG": "jpeg"}  # the others are called as their distortion
# the databases without SOS, and their a of the hypothesis
HYPOTHESIS = {"spaq": 0.1304, "flive": 0.1477, "cid2013": 0.1649, "vclfer": 0.1304, "biq2021": 0.1477}
PARTS = {"train": 8, "validation": 2, "test": 2}


@dataclass
class Made:
    """What was written: labels by path below the root, in the order of the label file."""

    root: Path
    mos: dict[str, float] = field(default_factory=dict)
    sos: dict[str, float] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    references: int = 0


def picture(path: Path, quality: float, index: int) -> None:
    """Noise, the coarser the worse: `quality` is 0..1."""
    rng = np.random.default_rng(index)
    block = 1 + round(9 * (1 - quality))
    noise = rng.integers(0, 256, (36 // block + 1, 48 // block + 1, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(noise).resize((48, 36), Image.Resampling.NEAREST)
    image.save(path, format="JPEG" if path.suffix.lower() == ".jpg" else None)


def labelled(
    root: Path, images: list[str], low: float, high: float, decimals: int = 6, lower_is_better: bool = False
) -> Made:
    """Random labels well within a scale, and the pictures that go with them."""
    made = Made(root)
    rng = np.random.default_rng(len(images))
    for index, image in enumerate(images):
        share = rng.uniform(0.15, 0.85)
        made.mos[image] = round(low + (high - low) * share, decimals)
        made.sos[image] = round((high - low) * rng.uniform(0.08, 0.2), decimals)
        picture(root / image, 1 - share if lower_is_better else share, index)
    return made


def write_koniq10k(root: Path) -> Made:
    made = Made(root)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(100, rng.dirichlet(np.ones(5), 12))
    mos = counts @ np.arange(1, 6) / 100
    sd = np.sqrt((counts * (np.arange(1, 6) - mos[:, None]) ** 2).sum(1) / 99)
    names = [f"{1000 + index}.jpg" for index in range(12)]
    table = pd.DataFrame({"image_name": names})
    table[["c1", "c2", "c3", "c4", "c5"]] = counts
    table = table.assign(c_total=100, MOS=mos.round(9), SD=sd.round(9), MOS_zscore=(20 * mos).round(8))
    root.mkdir()
    table.to_csv(root / "koniq10k_scores_and_distributions.csv", index=False)
    sets = table.assign(MOS=table["MOS_zscore"], set=["training"] * 8 + ["validation"] * 2 + ["test"] * 2)
    sets[["c1", "c2", "c3", "c4", "c5"]] = counts / 100
    sets.drop(columns="MOS_zscore").to_csv(root / "koniq10k_distributions_sets.csv", index=False)
    for index, name in enumerate(names):
        image = f"1024x768/{name}"
        picture(root / image, (mos[index] - 1) / 4, index)
        made.mos[image], made.sos[image] = mos[index], round(sd[index], 9)
        made.split[image] = "train" if index < 8 else "validation" if index < 10 else "test"
    return made


def write_spaq(root: Path, std: bool = False) -> Made:
    made = labelled(root, [f"TestImage/{index:05}.jpg" for index in range(1, 13)], 0, 100, 2)
    table = pd.DataFrame({"Image name": [Path(image).name for image in made.mos], "MOS": made.mos.values()})
    for attribute in ("Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"):
        table[attribute] = 50.5
    (root / "Annotations").mkdir()
    table.to_excel(root / "Annotations" / "MOS and Image attribute scores.xlsx", index=False)
    if std:
        later = pd.DataFrame({"image": table["Image name"], "mos": table["MOS"], "std": made.sos.values()})
        later.sample(frac=1, random_state=0).to_csv(root / "spaq_mos_std.csv", index=False)
    return made


def write_bid(root: Path) -> Made:
    rng = np.random.default_rng(0)
    numbers = [number for number in range(1, 16) if number not in (2, 7, 11)]
    made = labelled(root, [f"ImageDatabase/DatabaseImage{number:04}.JPG" for number in numbers], 0, 5)
    book = xlwt.Workbook()
    sheet = book.add_sheet("Plan1")
    book.add_sheet("Plan2")
    titles = ["Image Number", "Average Subjective Grade", "Number of Grades", *(f"Grade #{k}" for k in range(1, 21))]
    for column, title in enumerate(titles):
        sheet.write(0, column, title)
    for row, (number, image) in enumerate(zip(numbers, made.mos, strict=True), start=1):
        grades = np.clip(rng.normal(made.mos[image], 0.6, 11 + row % 4), 0, 5)
        made.mos[image], made.sos[image] = grades.mean(), grades.std(ddof=1)
        for column, value in enumerate([number, grades.mean(), len(grades), *grades]):
            sheet.write(row, column, float(value))
    book.save(str(root / "DatabaseGrades.xls"))
    return made


def write_clive(root: Path) -> Made:
    names = [f"{index}.{'bmp' if index % 2 else 'JPG'}" for index in range(100, 112)]
    made = labelled(root / "ChallengeDB_release", [f"Images/{name}" for name in names], 0, 100)
    data = root / "ChallengeDB_release" / "Data"
    data.mkdir()
    training = [f"t{index}.bmp" for index in range(1, 8)]
    cells = np.array([[name] for name in (*training, *names)], dtype=object)
    savemat(data / "AllImages_release.mat", {"AllImages_release": cells})
    for variable, values in (("AllMOS_release", made.mos), ("AllStdDev_release", made.sos)):
        savemat(data / f"{variable}.mat", {variable: np.array([[50.0] * 7 + list(values.values())])})
    made.root = root / "ChallengeDB_release"
    return made


def write_flive(root: Path) -> Made:
    folders = ("voc_emotic_ava", "blur_dataset", "EE371R")
    images = [f"database/{folders[i % 3]}/pic {i}.{'JPG' if i == 4 else 'jpg'}" for i in range(12)]
    made = labelled(root, images, 0, 100)
    made.sos = {}
    names = [image.removeprefix("database/") for image in images]
    table = pd.DataFrame({"name": names, "mos": made.mos.values()})
    table.to_csv(root / "labels_image.csv", index=False, lineterminator="\r\n")
    parts = [part for part, count in PARTS.items() for _ in range(count)]
    patches = pd.DataFrame({"mos_patch_1": 1.0, "mos_image": table["mos"], "name_image": table["name"]})
    patches[[part == "test" for part in parts]].to_csv(root / "labels640.csv", index=False, lineterminator="\r\n")
    rest = patches.assign(is_valid=[part == "validation" for part in parts])
    rest[[part != "test" for part in parts]].to_csv(root / "labels=640_padded.csv", index=False)
    made.split = dict(zip(images, parts, strict=True))
    return made


def write_kadid10k(root: Path) -> Made:
    names = [f"I{ref:02}_{kind:02}_{level:02}.png" for ref in range(1, 7) for kind in (1, 2) for level in (1, 2)]
    made = labelled(root, [f"images/{name}" for name in names], 1, 5, 2)
    table = pd.DataFrame({"dist_img": names, "ref_img": [f"{name[:3]}.png" for name in names]})
    table.assign(dmos=made.mos.values(), var=made.sos.values()).to_csv(root / "dmos.csv", index=False)
    made.references = 6
    return made


def write_csiq(root: Path) -> Made:
    rows = [(image, kind, 1 + i % 2) for image in ("1600", "cactus", "child", "lady", "shroom") for i, kind in
            enumerate(DISTORTIONS)]  # fmt: skip
    names = [f"{image}.{DISTORTIONS[kind]}.{level}.png" for image, kind, level in rows]
    kinds = [name.split(".")[1] for name in names]
    made = labelled(
        root,
        [f"dst_imgs/{CSIQ_FOLDERS.get(k, k)}/{n}" for k, n in zip(kinds, names, strict=True)],
        0,
        1,
        lower_is_better=True,
    )
    table = pd.DataFrame(rows, columns=["image", "dst_type", "dst_lev"])
    table["image"] = [1600 if image == "1600" else image for image in table["image"]]
    table.insert(1, "dst_idx", 1)
    table = table.assign(dmos_std=made.sos.values(), dmos=made.mos.values())
    with pd.ExcelWriter(root / "csiq.DMOS.xlsx") as book:
        pd.DataFrame({"a": ["=1/0"]}).to_excel(book, sheet_name="realign")
        table.to_excel(book, sheet_name="all_by_image", startrow=3, startcol=3, index=False)
    made.references = 5
    return made


def write_livemd(root: Path) -> Made:
    scenes = ("cows", "lunch", "seals", "wheel", "palace2")
    names = {part: [f"{scene}_{kind}{n}.bmp" for scene in scenes for n in (1, 2)]
             for part, kind in ((1, "blur1_jpeg"), (2, "blur1_noise"))}  # fmt: skip
    folders = {1: "Part 1/blurjpeg", 2: "Part 2/blurnoise"}
    images = [f"To_Release/{folders[part]}/{name}" for part in (1, 2) for name in names[part]]
    made = labelled(root, images, 0, 100, lower_is_better=True)
    rng = np.random.default_rng(0)
    for part in (1, 2):
        differences = rng.uniform(20, 60, (19, len(names[part])))
        place = root / "To_Release" / f"Part {part}"
        scores = {"DMOSscores": differences.mean(0, keepdims=True), "dist_diffscores": differences}
        savemat(place / "Scores.mat", scores)
        cells = np.array([[name] for name in names[part]], dtype=object)
        savemat(place / "Imagelists.mat", {"distimgs": cells, "refimgs": cells[:5], "ref4dist": np.ones((1, 5))})
        for name, column in zip(names[part], differences.T, strict=True):
            image = f"To_Release/{folders[part]}/{name}"
            made.mos[image], made.sos[image] = column.mean(), column.std(ddof=1)
    made.references = 5
    return made


def write_cid2013(root: Path) -> Made:
    rows = [("I", 1, 1), ("I", 1, 2), ("II", 1, 2), ("II", 3, 1), ("III", 2, 4), ("IV", 5, 1)]
    rows += [("V", 6, 2), ("V", 7, 2), ("VI", 8, 11), ("VI", 8, 12), ("VI", 4, 1), ("VI", 4, 2)]
    numerals = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6}
    names = [f"IS_{place}_C{scene:02}_D{device:02}" for place, scene, device in rows]
    images = [f"IS{numerals[p]}/co{scene}/{n}.jpg" for (p, scene, _), n in zip(rows, names, strict=True)]
    made = labelled(root, images, 0, 100)
    made.sos = {}
    table = pd.DataFrame({"Source_ID": names, "Image set specific  MOS": made.mos.values(), "Realigned MOS": -9.5})
    with pd.ExcelWriter(root / "CID2013 data - version 12112014.xlsx") as book:
        pd.DataFrame({"Observer": [1], "Score": [50]}).to_excel(book, sheet_name="IS1", index=False)
        table.to_excel(book, sheet_name="CID2013 MOS", index=False)
    return made


def write_vclfer(root: Path) -> Made:
    kinds = (("AWGN", "bmp"), ("BLU", "bmp"), ("J2K", "bmp"), ("JPG", "jpg"))
    names = [f"IMG_{ref:02}_{kind}_1.{ending}" for ref in range(1, 6) for kind, ending in kinds]
    made = labelled(root, [f"vcl_fer/{name}" for name in names], 0, 100)
    made.sos = {}
    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    for column, title in enumerate(("No", "Image name", "MOS")):
        sheet.write(1, column, title)
    for row, (name, mos) in enumerate(zip(names, made.mos.values(), strict=True), start=2):
        for column, value in enumerate((row - 1, name, mos)):
            sheet.write(row, column, value)
    book.save(str(root / "results.xls"))
    made.references = 5
    return made


def write_csv(root: Path) -> Made:
    made = labelled(root, [f"pictures/{index}.png" for index in range(12)], 0, 100)
    table = pd.DataFrame({"image": made.mos.keys(), "mos": made.mos.values(), "sos": made.sos.values()})
    table.to_csv(root / "labels.csv", index=False)
    return made


def write_small_demo(root: Path) -> Made:
    write_demo(root, scenes=5)
    return Made(root)


def write_database(name: str, root: Path) -> Made:
    """The made-up copy of a database, by its name in configs."""
    return WRITERS[name](root)


def write_biq2021(root: Path) -> Made:
    images = [f"Images/ss0{1 + i % 3} ({i}).jpg" for i in range(12)]
    made = labelled(root, images, 0, 1, 4)
    made.sos = {}
    parts = ["train"] * 9 + ["test"] * 3
    table = pd.DataFrame({"Image Name": [image.removeprefix("Images/") for image in images], "MOS": made.mos.values()})
    for part, title in (("train", "Train"), ("test", "Test")):
        rows = table[[each == part for each in parts]].assign(**{"Unnamed: 2": "", "Unnamed: 3": ""})
        rows.to_csv(root / f"{title} (Images and MOS).csv", index=False)
    made.split = dict(zip(images, parts, strict=True))
    return made


def write_agiqa3k(root: Path) -> Made:
    images = [f"{model}_normal_{i:03}.jpg" for i in range(6) for model in ("AttnGAN", "glide")]
    made = labelled(root, images, 0, 5)
    table = pd.DataFrame({"name": images, "prompt": [f"a cat, number {i}" for i in range(6) for _ in range(2)]})
    scores = {"mos_quality": made.mos.values(), "std_quality": made.sos.values(), "mos_align": 1.0, "std_align": 0.5}
    table.assign(adj1="", adj2="", style="", **scores).to_csv(root / "data.csv", index=False)
    made.references = 6
    return made


def write_tid2013(root: Path) -> Made:
    names = [f"i{ref:02}_{kind:02}_{level}.bmp" for ref in range(1, 7) for kind in (1, 24) for level in (1, 5)]
    made = labelled(root, [f"distorted_images/{name}" for name in names], 0, 9, 5)
    lines = [f"{mos} {name.upper()}" for name, mos in zip(names, made.mos.values(), strict=True)]  # not as on disk
    (root / "mos_with_names.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    (root / "mos_std.txt").write_bytes("\r\n".join([*map(str, made.sos.values()), ""]).encode())
    made.references = 6
    return made


def write_ava(root: Path) -> Made:
    made = Made(root)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(rng.integers(78, 550, 12), rng.dirichlet(np.ones(10), 12))
    opinions = [np.repeat(np.arange(1, 11), row) for row in counts]
    lines = []
    for index, votes in enumerate(opinions):
        number = 953619 - 7 * index
        image = f"images/{number}.jpg"
        made.mos[image], made.sos[image] = votes.mean(), votes.std(ddof=1)
        picture(root / image, (votes.mean() - 1) / 9, index)
        lines.append(f"{index + 1} {number} {' '.join(map(str, counts[index]))} {index % 3} 0 {1396 - index}")
    (root / "AVA.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    return made


def write_live(root: Path) -> Made:
    scenes = ("bikes", "house", "lighthouse2", "ocean", "woman")
    starts = {"jp2k": 0, "jpeg": 227, "wn": 460, "gblur": 634, "fastfading": 808}
    places = [start + k for start in starts.values() for k in range(3)]  # the others are copies of references
    images = [f"{folder}/img{k + 1}.bmp" for folder in starts for k in range(3)]
    made = labelled(root, images, 0, 100, lower_is_better=True)
    scores = {"dmos_new": np.zeros((1, 982)), "dmos_std": np.zeros((1, 982)), "orgs": np.ones((1, 982), np.uint8)}
    for name, values in (("dmos_new", made.mos), ("dmos_std", made.sos), ("orgs", dict.fromkeys(images, 0))):
        scores[name][0, places] = list(values.values())
    savemat(root / "dmos_realigned.mat", scores)
    references = np.array([[f"{scenes[k % 5]}.bmp" for k in range(982)]], dtype=object)
    savemat(root / "refnames_all.mat", {"refnames_all": references})
    made.references = 5
    return made


WRITERS: dict[str, Callable[[Path], Made]] = {
    "koniq10k": write_koniq10k,
    "spaq": write_spaq,
    "bid": write_bid,
    "clive": write_clive,
    "flive": write_flive,
    "kadid10k": write_kadid10k,
    "biq2021": write_biq2021,
    "agiqa3k": write_agiqa3k,
    "tid2013": write_tid2013,
    "ava": write_ava,
    "live": write_live,
    "csiq": write_csiq,
    "livemd": write_livemd,
    "cid2013": write_cid2013,
    "vclfer": write_vclfer,
    "csv": write_csv,
    "demo": write_small_demo,
}
OFFICIAL = tuple(name for name in WRITERS if name not in ("csv", "demo"))


def each(*names: str):
    """Runs a test with the fixture `made` on these databases; without names on all."""
    return pytest.mark.parametrize("made", names or OFFICIAL, indirect=True, ids=lambda name: name)
