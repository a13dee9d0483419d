"""Exported networks compute what the network computes, say what they are, and are there whole or not at all."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from datasets.transforms import build_test_transform
from experiments.schema import SeenDatabase
from models import build_model
from models.export import FORMATS, HALF, OUTPUTS, compare, export, exported_network
from models.official import to_official
from models.weights import load_network, translate_weights
from tests.lite import DATABASES, lite_checkpoint
from tests.running import ROOT, run_as_script
from tests.written import split_content
from tools import export as tool
from tools.export import main
from utils.checkpoint import read_tensors, save_checkpoint
from utils.config import config_from_dict
from utils.errors import UserError

SCALE = {"low": 0, "high": 100, "bin_centers": [10, 30, 50, 70, 90], "higher_is_better": False}
SUFFIXES = {".safetensors": "safetensors", ".onnx": "onnx", ".pt2": "torch"}


def write_checkpoint(path: Path, crop: int = 32, **model) -> Path:
    """A network with random weights and random running statistics whose memory path counts."""
    torch.manual_seed(0)
    transform = {"resize": max(crop, 41), "crop": crop}  # 41: the margins of the crop are 4 and 5
    settings = {"model": {"memory_weight": 0.5, **model}, "scale": SCALE, "transform": transform}
    config = config_from_dict(settings, "test")
    network = build_model(config.model)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    content = config.model_dump(mode="json")
    save_checkpoint(path, {"model": network.state_dict(), "config": content, "scale": content["scale"]})
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.pt", backbone="cvt_nano")


@pytest.fixture(scope="module")
def onnx_file(checkpoint) -> Path:
    assert main([str(checkpoint), "--format", "onnx"]) == 0
    return checkpoint.with_suffix(".onnx")


def pixels_of(batch: int, crop: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, crop, crop, generator=torch.Generator().manual_seed(batch))


@torch.inference_mode()
def require_same(file: Path, network: Path, tolerance: float, crop: int = 32) -> None:
    """Outputs of one image and of three within `tolerance`, MOS and SOS as shares of the scale's width."""
    form = FORMATS[SUFFIXES[file.suffix]]
    outputs, exported = form.read(file), exported_network(load_network(network))
    for batch in (1, 3):
        expected, found = exported(pixels_of(batch, crop)), outputs(pixels_of(batch, crop))
        assert list(expected) == list(found) == list(OUTPUTS)
        for name, unit in (("dos", 1), ("mos", 100), ("sos", 100)):
            assert found[name].dtype == torch.float32
            torch.testing.assert_close(found[name] / unit, expected[name] / unit, atol=tolerance, rtol=0)


@pytest.mark.slow
def test_onnx_computes_the_same(onnx_file, checkpoint):
    require_same(onnx_file, checkpoint, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["short", "none", "long"])
def test_onnx_of_every_memory(memory, tmp_path):
    """With one stage of the backbone, since only the head differs."""
    checkpoint = write_checkpoint(tmp_path / "best.pt", backbone="cvt_nano", stages=[1], memory=memory)
    assert main([str(checkpoint), "--output", str(tmp_path / "new" / "mine.onnx")]) == 0
    require_same(tmp_path / "new" / "mine.onnx", checkpoint, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_the_whole_cvt_21(suffix, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "best.pt", crop=64, backbone="cvt_21")
    assert main([str(checkpoint), "--output", str(tmp_path / f"best{suffix}")]) == 0
    require_same(tmp_path / f"best{suffix}", checkpoint, 1e-5, crop=64)


@pytest.mark.slow
def test_an_onnx_file_says_what_it_is(onnx_file, checkpoint):
    session = onnxruntime.InferenceSession(onnx_file)
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.shape, pixels.type) == ("pixels", ["batch", 3, 32, 32], "tensor(float)")
    shapes = {output.name: output.shape for output in session.get_outputs()}
    assert shapes == {"dos": ["batch", 5], "mos": ["batch"], "sos": ["batch"]}
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["config"]) == read_tensors(checkpoint)["config"]
    assert json.loads(metadata["scale"]) == SCALE
    assert (metadata["format"], metadata["version"]) == ("richiqa", "1")


@pytest.mark.slow
def test_torch_export_computes_the_same_and_says_what_it_is(checkpoint, tmp_path):
    file = tmp_path / "best.pt2"
    assert main([str(checkpoint), "--output", str(file)]) == 0
    require_same(file, checkpoint, 1e-6)
    metadata = {"config": "", "scale": ""}
    torch.export.load(file, extra_files=metadata)
    assert json.loads(metadata["config"]) == read_tensors(checkpoint)["config"]
    assert json.loads(metadata["scale"]) == SCALE


def test_safetensors_are_the_network_bit_for_bit(checkpoint, tmp_path, capsys):
    file = tmp_path / "best.safetensors"
    assert main([str(checkpoint), "--output", str(file)]) == 0
    assert "weights, config, scale and no names of training images" in capsys.readouterr().out
    require_same(file, checkpoint, 0)
    network, original = load_network(file), load_network(checkpoint)
    assert (network.own, network.config, network.origin) == (True, original.config, None)
    assert translate_weights(read_tensors(file), file)[0] == "network"  # so that model.pretrained takes it


@torch.inference_mode()
def test_half_is_a_quarter_smaller_and_read_as_float32(tmp_path, capsys):
    """Each stored tensor is the original rounded by NumPy; small ones and those that overflow are the original."""
    checkpoint = lite_checkpoint(tmp_path / "best.pt")
    content = read_tensors(checkpoint)
    large = content["model"]["backbone.model.blocks.6.0.conv_pwl.weight"]
    large[0, 0] = 70_000.0  # not a value of float16
    content["model"]["backbone.model.blocks.6.0.bn3.weight"][0] = 1e-9  # else it would decide about everything
    save_checkpoint(checkpoint, content)
    files = [tmp_path / name for name in ("full.safetensors", "half.safetensors")]
    for file, options in zip(files, ([], ["--half"]), strict=True):
        assert main([str(checkpoint), "--output", str(file), *options]) == 0
    printed = capsys.readouterr().out
    assert f"written to {files[1]}: safetensors in float16, {files[1].stat().st_size / 1e6:.1f} MB" in printed
    assert 0.7 < files[1].stat().st_size / files[0].stat().st_size < 0.8
    stored, read = load_file(files[1]), read_tensors(files[1])["model"]
    for name, tensor in content["model"].items():
        expected, overflows = tensor.numpy(), name == "backbone.model.blocks.6.0.conv_pwl.weight"
        is_half = tensor.numel() > 200_000 and not overflows
        expected = expected.astype(np.float16).astype(np.float32) if is_half else expected
        assert stored[name].dtype == (torch.float16 if is_half else tensor.dtype)
        assert read[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read[name].numpy(), expected)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    mos = [exported_network(load_network(file))(pixels)["mos"] for file in files]
    assert 0 < (mos[0] - mos[1]).abs().max() < 0.001
    again = tmp_path / "again.safetensors"
    assert main([str(files[1]), "--output", str(again), "--half"]) == 0
    assert all(torch.equal(tensor, stored[name]) for name, tensor in load_file(again).items())


def test_half_is_refused_where_the_scores_would_move(checkpoint, tmp_path):
    """By the allowed 0.001 on a scale from 1 to 5, of the MOS alone."""
    moved = {"dos": 0.01, "mos": 0.02, "sos": 0.02}  # 0.00020 and 0.00030 of the scale's width of 100

    def read(path, factor):
        run = FORMATS["safetensors"].read(path)
        return lambda pixels: {name: tensor + factor * moved[name] for name, tensor in run(pixels).items()}

    network = load_network(checkpoint)
    export(network, replace(HALF, read=lambda path: read(path, 1)), tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(UserError, match=r"mos 3\.\de-04.*0\.00025 is allowed in mos; float16 is not .*omit --half"):
        export(network, replace(HALF, read=lambda path: read(path, 1.5)), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_folders_of_a_machine_are_left_out(tmp_path):
    """Absolute paths only, wherever they are; names of images and relative folders stay."""
    before = SeenDatabase(name="csv", title="mine", root="/home/me/mine", labels="l", mos_hash="m", seen=("a/b.png",))
    split = {**split_content(DATABASES), "seen_before": {"known": True, "databases": [before.model_dump()]}}
    checkpoint = lite_checkpoint(tmp_path / "best.pt", split, pretrained=str(tmp_path / "lite0.pth"))
    content = read_tensors(checkpoint)
    config = content["config"]
    config["run"]["root"] = config["dataset"][0]["root"] = config["dataset"][1]["labels"] = "/home/me/data"
    save_checkpoint(checkpoint, content)
    assert main([str(checkpoint), "--format", "safetensors"]) == 0
    written = checkpoint.with_suffix(".safetensors")
    with safe_open(written, "pt") as file:
        text = json.dumps(file.metadata())
    assert "/home" not in text
    assert str(tmp_path) not in text
    found = read_tensors(written)
    assert found["config"]["model"]["pretrained"] == "lite0.pth"
    assert [one["root"] for one in found["config"]["dataset"]] == ["data", "data/clive"]
    (ancestor,) = found["split"]["seen_before"]["databases"]
    assert (ancestor["root"], ancestor["seen"]) == ("mine", ["a/b.png"])
    assert found["split"]["databases"] == json.loads(json.dumps(split["databases"]))


def test_averaged_weights_are_taken_where_there_are_any(checkpoint, tmp_path):
    content = read_tensors(checkpoint)
    average = {f"module.{name}": tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in
               content["model"].items()}  # fmt: skip
    save_checkpoint(tmp_path / "last.pt", {**content, "average": {"n_averaged": torch.tensor(3), **average}})
    assert main([str(tmp_path / "last.pt"), "--format", "safetensors"]) == 0
    weights = read_tensors(tmp_path / "last.safetensors")["model"]
    assert weights.keys() == content["model"].keys()
    assert all(torch.equal(tensor, average[f"module.{name}"]) for name, tensor in weights.items())


def test_a_release_checkpoint_needs_its_config(tmp_path):
    torch.manual_seed(0)
    model = build_model()
    torch.save({f"module.{name}": t for name, t in to_official(model.state_dict()).items()}, tmp_path / "release.pth")
    (tmp_path / "mine.yaml").write_text(f"scale: {json.dumps(SCALE)}\ntransform: {{resize: 41, crop: 32}}\n")
    command = [str(tmp_path / "release.pth"), "--format", "safetensors"]
    with pytest.raises(UserError, match=r"--trained-with \S+ to main\.py --evaluate and tools/export\.py"):
        main(command)
    assert main([*command, "--trained-with", str(tmp_path / "mine.yaml")]) == 0
    content, state = read_tensors(tmp_path / "release.safetensors"), model.state_dict()
    assert (content["scale"], content["config"]["transform"]["crop"]) == (SCALE, 32)
    assert content["model"].keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in content["model"].items())


def test_what_is_printed(tmp_path, capsys):
    checkpoint, file = write_checkpoint(tmp_path / "a.pt", backbone="cvt_nano", stages=[1]), tmp_path / "a.pt2"
    assert main([str(checkpoint), "--format", "torch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"written to {file}: torch.export, {file.stat().st_size / 1e6:.1f} MB"
    assert [line.split()[0] for line in lines[1:5]] == ["pixels", "dos", "mos", "sos"]
    assert "(B, 3, 32, 32)  float32, RGB, 0 to 1: squashed to 41 x 41, centre crop of 32" in lines[1]
    assert lines[2].endswith("shares of 10, 30, 50, 70, 90")
    assert lines[3].endswith("10 to 90 on a scale of 0 to 100, lower is better")
    assert lines[4].endswith("0 to 40")
    differences = compare(load_network(checkpoint), FORMATS["torch"], file)
    assert f"3 random images: dos {differences['dos']:.1e}, mos {differences['mos']:.1e}" in lines[5]


@pytest.mark.slow
def test_the_example_of_the_page(onnx_file, checkpoint, tmp_path, monkeypatch, capsys):
    """Exactly as it stands there; in agreement with the transform and the network of this project."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "EXPORT.md").read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "onnxruntime" in block]
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 4), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    (tmp_path / "best.onnx").write_bytes(onnx_file.read_bytes())
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    network = load_network(checkpoint)
    image = build_test_transform(network.config.transform)(Image.open("photo.png").convert("RGB"))
    with torch.inference_mode():
        dos = network.model.eval()(image[None]).numpy()
    np.testing.assert_allclose(names["dos"], dos, atol=1e-6)
    mos = (dos[0] * SCALE["bin_centers"]).sum()
    sos = (dos[0] * (np.array(SCALE["bin_centers"]) - mos) ** 2).sum() ** 0.5
    assert [names["mos"][0], names["sos"][0]] == pytest.approx([mos, sos], rel=1e-5)
    assert capsys.readouterr().out == f"MOS {mos:.3f}, SOS {sos:.3f}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["best.pt"], r"no format: use --format safetensors, onnx, torch, or an --output FILE ending in"),
        (["best.pt", "--output", "a.pt2", "--half"], r"--half: torch\.export keeps float32; use it with --format safe"),
        (["best.pt", "--output", "a.pth"], r"a\.pth should end in one of \.safetensors, \.onnx, \.pt2"),
        (["best.pt", "--output", "a"], r"a should end in one of \.safetensors, \.onnx, \.pt2"),
        (["best.pt", "--output", "a.onnx", "--format", "torch"], r"a\.onnx should end in \.pt2 for --format torch"),
        (["best.pt", "--output", "folder.pt2"], r"folder\.pt2 is a folder"),
        (["best.pt", "--output", "best.pt/a.pt2"], r"folder best\.pt cannot be created: best\.pt is a file"),
        (["same.safetensors", "--format", "safetensors"], r"same\.safetensors is the checkpoint itself"),
        (["best.pt", "--output", "same.safetensors"], r"same\.safetensors already exists; --overwrite replaces it"),
        (["best.pt", "--format", "torch", "--scale", "acr"], "already contains its rating scale and config"),
        (["best.pt", "--format", "torch", "--trained-with", "a.yaml"], r"config a\.yaml does not exist"),
        (["cvt.pth", "--format", "torch", "--scale", "acr"], "contains a backbone, not a trained RichIQA"),
        (["cvt.pth", "--format", "torch", "--scale", "five"], "'five' is not a rating scale"),
        (["none.pt", "--format", "torch"], r"checkpoint none\.pt does not exist"),
        (["", "--format", "torch"], r"checkpoint \. is a folder"),
        (
            ["best.pt", "--format", "torch", "--evaluations", "out"],
            "--evaluations is for the model card of --format hub",
        ),
        (["best.pt", "--format", "hub"], r"--output: name the folder to write; --format hub needs it"),
        (["best.pt", "--format", "hub", "--output", "same.safetensors"], r"same\.safetensors is a file; name a folder"),
        (
            ["best.pt", "--format", "hub", "--output", "folder.pt2"],
            r"folder\.pt2 already exists; --overwrite replaces it",
        ),
        (
            ["best.pt", "--format", "hub", "--output", ".", "--overwrite"],
            r"\. contains more than an export, such as best",
        ),
        (
            ["best.pt", "--format", "hub", "--output", "best.pt/a"],
            r"folder \S+ cannot be created: \S+best\.pt is a file",
        ),
        (["best.pt", "--format", "hub", "--output", "a", "--evaluations", "out"], r"out contains no metrics\.json"),
        (["none.pt", "--format", "hub", "--output", "a"], r"checkpoint none\.pt does not exist"),
        (
            ["hf://owner/name", "--format", "torch"],
            r"--output: name the file to write, since hf://owner/name is in the",
        ),
    ],
)
def test_mistakes(arguments, message, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.pt").write_bytes(checkpoint.read_bytes())
    main(["best.pt", "--output", "same.safetensors", "--overwrite"])
    (tmp_path / "folder.pt2").mkdir()
    torch.save({"stage0.patch_embed.proj.weight": torch.zeros(1)}, "cvt.pth")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        main(arguments)
    assert sorted(tmp_path.iterdir()) == before


def test_a_mistake_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_as_script(monkeypatch, "tools/export.py", "none.pt", "--format", "onnx") == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "error: checkpoint none.pt does not exist\n"


def test_packages_that_are_missing_are_named(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UserError, match=r"needs onnxscript; run `pip install onnx onnxscript onnxruntime`"):
        main([str(checkpoint), "--output", str(tmp_path / "a.onnx")])


def test_a_file_that_computes_something_else_is_not_written(checkpoint, tmp_path):
    network = load_network(checkpoint)

    def shifted(path):
        read = FORMATS["safetensors"].read(path)
        return lambda pixels: {name: tensor + 2e-4 for name, tensor in read(pixels).items()}

    form = replace(FORMATS["safetensors"], read=shifted, tolerance=1e-4)
    with pytest.raises(UserError, match=r"not written, since its outputs differ from the network's by dos 2\.0e-04"):
        export(network, form, tmp_path / "a.safetensors")
    undefined = replace(form, read=lambda _: lambda pixels: dict.fromkeys(OUTPUTS, pixels.sum() * float("nan")))
    with pytest.raises(UserError, match="dos nan"):
        export(network, undefined, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_torch_cannot_export_is_one_line(checkpoint, tmp_path):
    def fail(_, path):
        path.write_bytes(b"half")
        raise RuntimeError("data-dependent\nexpression")

    form = replace(FORMATS["torch"], write=fail)
    with pytest.raises(UserError, match=r"cvt_nano cannot be exported as torch\.export .*data-dependent expression"):
        export(load_network(checkpoint), form, tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_network_gone_wrong_is_not_exported(checkpoint, tmp_path):
    content = read_tensors(checkpoint)
    for name, weights in content["model"].items():
        if name.startswith("algorithmic."):
            weights.fill_(3e38)  # finite, but not what follows from it
    save_checkpoint(tmp_path / "best.pt", content)
    with pytest.raises(UserError, match="predicts values that are not finite"):
        main([str(tmp_path / "best.pt"), "--format", "safetensors"])
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_a_repository_that_cannot_be_finished_leaves_the_one_before(checkpoint, tmp_path, monkeypatch):
    """Nor is a temporary folder left."""
    command = [str(checkpoint), "--format", "hub", "--output", str(tmp_path / "a"), "--overwrite"]
    assert main(command) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert main(command) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before

    def fail(*_):
        raise OSError(28, "full")

    monkeypatch.setattr("experiments.model_card.hub.front_matter", fail)
    for name in ("a", "b"):
        command[4] = str(tmp_path / name)
        with pytest.raises(UserError, match=f"{name} cannot be written: full"):
            main(command)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == list(before)
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_network_of_the_hub_is_exported(checkpoint, tmp_path, hub):
    assert main([str(checkpoint), "--output", str(tmp_path / "best.safetensors")]) == 0
    content = (tmp_path / "best.safetensors").read_bytes()
    hub.push("owner/name", {"model.safetensors": content})
    assert main(["hf://owner/name", "--output", str(tmp_path / "again.safetensors")]) == 0
    assert (tmp_path / "again.safetensors").read_bytes() == content
