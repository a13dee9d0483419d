"""What the Ray engine is made of, without Ray: options, shares, object stores, shards, folders of parts."""

import argparse
import io
import os
import sys
import tarfile
import zipfile
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from inference import main
from scoring.options import parse_arguments
from scoring.pictures import Encoded, open_picture
from scoring.ray import remote_files, shards
from scoring.ray.parquet_output import ParquetFolder
from scoring.ray.shards import images_in, require_columns
from scoring.ray.worker_plan import WorkerPlan, plan_workers, split_tasks
from tests.scoring.scored import found
from utils import installation
from utils.errors import MissingFileError, UserError

SAME = {"scale": "1,5:1,2,3,4,5", "preprocess": "full@40", "checkpoint": "ab"}
COLUMNS = ("path", "error", *SAME)


def columns(image: str | None = None, content: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(image_column=image, image_bytes=content)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8 + number, 8), "teal").save(file, "PNG")
    return file.getvalue()


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as shard:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--engine", "ray"], "name the --output, a file or a FOLDER/ of Parquet"),
        (["--engine", "ray", "--map", "maps"], "--map works with --engine local only"),
        (["--engine", "ray", "--report", "page.html"], "--report works with --engine local only"),
        (["--engine", "ray", "--device", "cuda:1"], "'cuda:1'; with --engine ray: auto, cpu, cuda"),
        (["--engine", "ray", "--output", "rows/", "--format", "csv"], "a folder is written as parquet, got csv"),
        (
            ["--engine", "ray", "--output", "s3://bucket/rows", "--strict"],
            "--strict: all workers write to the folder",
        ),
        (["--engine", "spark"], "--engine"),
        (["--ray-address", "auto"], "--ray-address works with --engine ray only"),
        (["--image-bytes", "jpg"], "--image-bytes works with --engine ray only"),
        (["--output", "rows.parquet/"], "which needs --engine ray; name a file"),
        (["--output", "s3://bucket/rows.csv"], "which needs --engine ray; name a file"),
    ],
)
def test_options_that_do_not_go_together(arguments, expected, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["photo.png", *arguments])
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_packages_that_are_missing_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr(installation, "find_spec", lambda name: None if name in ("ray", "pyarrow") else True)
    with pytest.raises(SystemExit) as caught:
        main(["photo.png", "--engine", "ray", "--output", "rows.csv"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: --engine ray: not installed for {sys.executable}: ray, pyarrow; run `pip install -r"
    )
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("machines", "device", "workers", "plan"),
    [
        ([(8, 0)], "auto", None, WorkerPlan(8, 0, 1, 1)),
        ([(8, 0)], "auto", 3, WorkerPlan(3, 0, 2, 2)),
        ([(2, 0), (4, 0)], "auto", 1, WorkerPlan(1, 0, 4, 4)),  # a worker is on one machine
        ([(8, 2)], "auto", None, WorkerPlan(2, 1, 1, 4)),
        ([(8, 2)], "cpu", None, WorkerPlan(8, 0, 1, 1)),
        ([(64, 0), (16, 4), (8, 8)], "cuda", 5, WorkerPlan(5, 1, 1, 1)),
    ],
)
def test_cores_and_gpus_are_shared(machines, device, workers, plan):
    assert plan_workers(machines, device, workers) == plan
    assert plan.workers * plan.cpus <= sum(cores for cores, _ in machines)


def test_more_than_there_is_room_for():
    with pytest.raises(UserError, match="3 workers, but the Ray cluster has 2 cores"):
        plan_workers([(2, 0)], "auto", 3)
    with pytest.raises(UserError, match="3 workers, but the Ray cluster has 2 GPUs"):
        plan_workers([(8, 2)], "auto", 3)
    with pytest.raises(UserError, match="cuda, but the Ray cluster has no GPU"):
        plan_workers([(8, 0)], "cuda", None)


def test_every_source_is_in_one_task():
    sources = [f"{number}.png" for number in range(100)]
    sources.insert(3, "a.tar")
    for batch_size, workers in ((1, 1), (32, 2), (1, 200)):
        tasks = split_tasks(sources, batch_size, workers)
        assert Counter(source for task in tasks for source in task) == Counter(sources)
        assert ["a.tar"] in tasks
        assert max(map(len, tasks)) <= 8 * batch_size
    assert len(split_tasks(sources, 32, 2)) == 9  # four for each worker and the shard


def test_bytes_and_files_are_read_alike(tmp_path):
    cases = {"good.png": png(3), "empty.png": b"", "text.jpg": b"Dear colleagues", "half.png": png(30)[:60]}
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        found = []
        for source in (str(path), Encoded(str(path), lambda content=content: content)):
            try:
                found.append(np.asarray(open_picture(source).image).tolist())
            except UserError as error:
                found.append((type(error), str(error)))
        assert found[0] == found[1]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_shards(mode, tmp_path):
    shard = str(tmp_path / "0.tar")
    write_tar(shard, {"a.png": png(0), "a.json": b"{}", "b/._c.png": b"", "b/c.JPG": png(1)}, mode)
    images = list(images_in(shard, columns()))
    assert [image.name for image in images] == [f"{shard}/a.png", f"{shard}/b/c.JPG"]
    assert [open_picture(image).image.width for image in images] == [8, 9]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip", "a.ZIP"])
def test_compressed_archives_are_shards(name, tmp_path):
    shard = tmp_path / name
    members = {"a.png": png(0), "a.json": b"{}", "__MACOSX/._a.png": b"x", "b/C.JPG": png(1)}
    if name.lower().endswith(".zip"):
        with zipfile.ZipFile(shard, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
    else:
        write_tar(shard, members, f"w:{'gz' if 'gz' in name else name[-3:].strip('.')}")
    assert found(str(tmp_path), engine="ray") == [str(shard)]
    assert [str(shard)] in split_tasks([str(shard), "b.png"], 1, 1)
    images = list(images_in(str(shard), columns()))
    assert [image.name for image in images] == [f"{shard}/a.png", f"{shard}/b/C.JPG"]
    assert [open_picture(image).image.width for image in images] == [8, 9]


def test_archives_under_another_name_links_and_empty_ones(tmp_path):
    plain = tmp_path / "a.tar.gz"
    write_tar(plain, {"a.png": png(0)})  # not compressed
    assert len([open_picture(image) for image in images_in(str(plain), columns())]) == 1
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            link = tarfile.TarInfo("b.png")
            link.type, link.linkname = kind, "a.png"
            archive.addfile(link)
    for image in images_in(str(tmp_path / "b.tar"), columns()):
        with pytest.raises(UserError, match=r"b\.tar/b\.png is a link to a\.png, .* unpack it"):
            image.read()
    write_tar(tmp_path / "c.tar", {"a.txt": b"a"})
    (image,) = images_in(str(tmp_path / "c.tar"), columns())
    with pytest.raises(UserError, match=r"c\.tar contains no image"):
        image.read()


def test_zip_files_with_damaged_members(tmp_path):
    shard = tmp_path / "a.zip"
    with zipfile.ZipFile(shard, "w") as archive:
        archive.writestr("a.png", png(0))
        archive.writestr("b.png", png(1))
    content = bytearray(shard.read_bytes())
    content[60] ^= 1  # in the first image
    shard.write_bytes(content)
    first, second = images_in(str(shard), columns())
    with pytest.raises(UserError, match=r"a\.zip/a\.png cannot be read: Bad CRC"):
        first.read()
    assert open_picture(second).image.width == 9
    shard.write_bytes(content[:80])
    (image,) = images_in(str(shard), columns())
    with pytest.raises(UserError, match=r"a\.zip cannot be read to its end: File is not a zip file"):
        image.read()


def test_tables_of_hugging_face_and_img2dataset(tmp_path):
    table, content = str(tmp_path / "rows.parquet"), [png(0), png(1), None]
    structs = [{"bytes": data, "path": name} for data, name in zip(content, ["x.png", None, "z.png"], strict=True)]
    pq.write_table(pa.table({"image": structs, "label": [1, 2, 3]}), table)
    require_columns([table], columns())
    images = list(images_in(table, columns()))
    assert [image.name for image in images] == [f"{table}/x.png", f"{table}/1", f"{table}/z.png"]
    assert [open_picture(image).image.width for image in images[:2]] == [8, 9]
    with pytest.raises(UserError, match=r"z\.png is empty"):
        open_picture(images[2])
    pq.write_table(pa.table({"key": ["00", "01", "02"], "jpg": content, "caption": ["a"] * 3}), table)
    assert [image.name for image in images_in(table, columns())] == ["00", "01", "02"]
    pq.write_table(pa.table({"jpg": content, "mask": content}), table)
    with pytest.raises(UserError, match="no column 'bytes'; choose one with --image-bytes: jpg, mask"):
        require_columns([table], columns())
    assert len(list(images_in(table, columns(content="mask")))) == 3


def test_metadata_beside_archives_are_passed_over(tmp_path, capsys):
    for number in range(2):
        write_tar(tmp_path / f"{number:05}.tar", {"a.jpg": png(0)})
        pq.write_table(pa.table({"url": ["x"], "key": ["a"]}), tmp_path / f"{number:05}.parquet")
        (tmp_path / f"{number:05}_stats.json").touch()
    sources = found(str(tmp_path), engine="ray")
    assert len(sources) == 4
    assert require_columns(sources, columns()) == [source for source in sources if source.endswith(".tar")]
    assert capsys.readouterr().err == (
        "passed over: 2 .json\npassed over: 2 .parquet without images, which lie beside theirs\n"
    )
    tables = [source for source in sources if source.endswith(".parquet")]
    with pytest.raises(UserError, match=r"no column 'bytes'.*; its images are in .*/00000\.tar: name '.*/\*\.tar'"):
        require_columns(tables, columns())
    (tmp_path / "1").mkdir()
    images = [str(tmp_path / "1" / "a.jpg")]
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "1.parquet")
    assert require_columns([*images, str(tmp_path / "1.parquet")], columns()) == images
    with pytest.raises(UserError, match="its images are in the folder of the same name: add --recursive"):
        require_columns([str(tmp_path / "1.parquet")], columns())


def test_what_of_a_shard_cannot_be_read_is_one_error_after_what_can(tmp_path):
    shard = tmp_path / "0.tar"
    write_tar(shard, {f"{number}.png": png(number).ljust(5000, b"\0") for number in range(4)})
    shard.write_bytes(shard.read_bytes()[:13_000])
    *whole, cut = images_in(str(shard), columns())
    assert [image.name[-5:] for image in whole] == ["0.png", "1.png"]
    with pytest.raises(UserError, match=r"0\.tar cannot be read to its end: "):
        cut.read()
    for name, message in (("missing.tar", "does not exist"), ("missing.parquet", "does not exist")):
        (image,) = images_in(str(tmp_path / name), columns())
        with pytest.raises(UserError, match=message):
            image.read()
    (tmp_path / "letter.parquet").write_text("Dear colleagues")
    (image,) = images_in(str(tmp_path / "letter.parquet"), columns())
    with pytest.raises(UserError, match=r"letter\.parquet cannot be read to its end: "):
        image.read()


def test_tables_of_image_files(tmp_path):
    names = [f"{number}.png" for number in range(40)]
    table = str(tmp_path / "rows.parquet")
    content = [png(number) for number in range(39)] + [None]
    pq.write_table(pa.table({"path": names, "bytes": content, "mos": range(40)}), table, row_group_size=7)
    images = list(images_in(table, columns()))
    assert [image.name for image in images] == names
    assert open_picture(images[20]).image.width == 28
    with pytest.raises(UserError, match=r"39\.png is empty"):
        open_picture(images[39])
    assert [image.name for image in images_in(table, columns("mos", "bytes"))] == [str(number) for number in range(40)]
    require_columns([str(tmp_path / "missing.parquet"), table], columns())
    with pytest.raises(UserError, match=r"no column 'byte' .did you mean 'bytes'.*--image-bytes: path, bytes, mos"):
        require_columns([table], columns(content="byte"))
    with pytest.raises(UserError, match=r"no column 'name'; .*--image-column: path, bytes, mos"):
        require_columns([table], columns(image="name"))
    image = next(images_in(table, columns("path", "mos")))
    with pytest.raises(UserError, match=r"0\.png: its column contains int, not bytes"):
        image.read()


def test_object_stores(tmp_path):
    for name in ("b.png", "a.png", "notes.txt", "sub/c.png", "sub/0.tar", ".hidden.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(0))
    root = f"file://{tmp_path}/photos"

    def below(*places, **options):
        return [path.removeprefix(root) for path in found(*places, engine="ray", **options)]

    assert below(root) == below(f"{root}/") == ["/a.png", "/b.png"]
    assert below(root, recursive=True) == ["/a.png", "/b.png", "/sub/0.tar", "/sub/c.png"]
    assert below(f"{root}/b*.png", f"{root}/missing.png") == ["/b.png", "/missing.png"]
    with pytest.raises(MissingFileError, match="no object matches the pattern"):
        below(f"{root}/*.bmp")
    with pytest.raises(UserError, match="only the last part is a pattern"):
        below(f"{root}/*/c.png")
    with pytest.raises(UserError, match="no such object store"):
        below("ftp3://bucket/photos")
    assert open_picture(remote_files.remote_image(f"{root}/a.png")).image.size == (8, 8)
    with pytest.raises(MissingFileError, match=r"image file:.*missing\.png does not exist"):
        open_picture(remote_files.remote_image(f"{root}/missing.png"))
    with pytest.raises(UserError, match="sub cannot be read"):
        open_picture(remote_files.remote_image(f"{root}/sub"))


def test_what_is_written_to_is_not_read(tmp_path):
    for name in ("a.png", "rows.parquet", "old.parquet", "sub/b.tar", "out/part.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    written = {"map": str(tmp_path / "rows.parquet"), "output": f"{tmp_path}/out/"}
    paths = found(str(tmp_path), recursive=True, engine="ray", **written)
    assert [os.path.relpath(path, tmp_path) for path in paths] == ["a.png", "old.parquet", "sub/b.tar"]
    assert found(str(tmp_path), recursive=True) == [str(tmp_path / "a.png")]


def write_part(folder, name, paths, **same):
    folder.mkdir(exist_ok=True)
    errors = ["bad" if "bad" in path else None for path in paths]
    columns = {key: [value] * len(paths) for key, value in {**SAME, **same}.items()}
    pq.write_table(pa.table({"path": paths, "error": pa.array(errors, pa.string()), **columns}), folder / name)


def test_a_folder_of_parts_is_gone_on_with(tmp_path, capsys):
    folder = tmp_path / "rows"
    parts = ParquetFolder(f"{folder}/", COLUMNS)
    parts.check_overwrite(resume=False, overwrite=False)
    assert len(parts.done(SAME)) == 0
    write_part(folder, "0.parquet", ["a", "bad"])
    write_part(folder, "1.parquet", ["b", "a", "bad 2"])
    (folder / "2.parquet").write_bytes((folder / "1.parquet").read_bytes()[:-20])
    (folder / "3.parquet").touch()
    (folder / "notes.txt").touch()
    done = parts.done(SAME)
    assert len(done) == 5
    names = ["a", "c", "a", "a", "b", "b", "bad"]
    assert done.unscored(range(len(names)), names) == [1, 3, 5]
    assert capsys.readouterr().err.count("was incomplete and is removed") == 2
    assert parts.count() == (5, ["bad", "bad"])
    with pytest.raises(UserError, match=r"already contains \.parquet files; --resume continues"):
        parts.check_overwrite(resume=False, overwrite=False)
    with pytest.raises(UserError, match="other settings: preprocess full@40 then, release@40x32 now"):
        parts.done({**SAME, "preprocess": "release@40x32"})
    parts.clear()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_what_lies_in_a_folder_and_is_not_ours_stays(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; name a folder"):
        ParquetFolder(f"{tmp_path}/file/", COLUMNS).check_overwrite(resume=True, overwrite=False)
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.parquet").write_text("Dear colleagues")
    with pytest.raises(UserError, match=r"a\.parquet cannot be read as Parquet"):
        ParquetFolder(str(folder), COLUMNS).done(SAME)
    pq.write_table(pa.table({"path": ["a"]}), folder / "a.parquet")
    with pytest.raises(UserError, match=r"was not written by inference\.py: no column error, scale"):
        ParquetFolder(str(folder), COLUMNS).done(SAME)
    (folder / "a.parquet").unlink()
    write_part(folder, "0.parquet", ["a"])
    with pytest.raises(UserError, match=r"0\.parquet has other columns than those of this run; --overwrite"):
        ParquetFolder(str(folder), (*COLUMNS, "panel")).done({**SAME, "panel": 25})  # of a run without this field
    assert (folder / "0.parquet").exists()


@pytest.mark.parametrize("kind", ["stated in a zip", "unpacked from a zip", "stated in a tar"])
def test_images_larger_than_memory_are_not_unpacked(kind, tmp_path, monkeypatch):
    """What is stated counts, and what comes out: bzip2 unpacks all at once, whatever size its zip file states."""
    monkeypatch.setattr(shards, "LARGEST", 2**18)
    shard = tmp_path / ("a.tar" if "tar" in kind else "a.zip")
    if "tar" in kind:
        entry = tarfile.TarInfo("../../a.png")
        entry.size = 2**40
        shard.write_bytes(entry.tobuf() + b"\0" * 2**10)
    else:
        with zipfile.ZipFile(shard, "w", zipfile.ZIP_BZIP2) as archive:
            archive.writestr("../../a.png", b"\0" * 2**22)
    if "unpacked" in kind:
        content = shard.read_bytes()
        shard.write_bytes(content.replace((2**22).to_bytes(4, "little"), (2**17).to_bytes(4, "little")))
    image = next(iter(images_in(str(shard), columns())))
    with pytest.raises(UserError, match=r"a\.(zip|tar)/\.\./\.\./a\.png (has \d+ bytes; the limit|cannot be read)"):
        image.read()


def test_names_that_lead_out_of_an_archive_write_nothing(tmp_path):
    (tmp_path / "inner").mkdir()
    write_tar(tmp_path / "inner" / "a.tar", {"../../b.png": png(0), "/tmp/c.png": png(1)})
    names = [image.name for image in images_in(str(tmp_path / "inner" / "a.tar"), columns())]
    assert [name.partition("a.tar/")[2] for name in names] == ["../../b.png", "/tmp/c.png"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "inner"]
