"""Sources of weights; weights that do not fit exactly are rejected."""

from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import CvtConfig, CvtModel

from models import build_model, weights
from models.official import to_official
from models.weights import load_network, load_pretrained
from utils.checkpoint import save_checkpoint
from utils.errors import MissingFileError, UserError
from utils.settings import Config, ModelSettings

CVT_13 = ModelSettings(backbone="cvt_13", pretrained="imagenet22k")


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(1)
    return build_model(ModelSettings(backbone="cvt_13"))


@pytest.fixture
def cvt_file(trained, tmp_path: Path) -> Path:
    """Write a file in the format of the CvT authors."""
    official = to_official(trained.backbone.state_dict(prefix="backbone."))
    content = {name.removeprefix("net."): tensor for name, tensor in official.items()}
    content |= {"norm.weight": torch.ones(384), "norm.bias": torch.zeros(384)}
    torch.save(content, tmp_path / "CvT-13-384x384-IN-22k.pth")
    return tmp_path / "CvT-13-384x384-IN-22k.pth"


def backbones_equal(one, other) -> bool:
    states = one.backbone.state_dict(), other.backbone.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_file_in_checkpoint_folder_comes_first(trained, cvt_file, monkeypatch):
    monkeypatch.setattr(weights, "WEIGHTS_FOLDER", cvt_file.parent)
    model = build_model(CVT_13)
    assert not backbones_equal(model, trained)
    assert str(cvt_file) in load_pretrained(model, CVT_13)
    assert backbones_equal(model, trained)


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_hub_cache_is_used_without_network(filename, tmp_path, monkeypatch):
    oracle = CvtModel(CvtConfig(depth=[1, 2, 10]))
    repository = tmp_path / "models--microsoft--cvt-13-384-22k"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    state = {f"cvt.{name}": tensor.contiguous() for name, tensor in oracle.state_dict().items()}
    state["classifier.bias"] = torch.zeros(3)
    if filename.endswith("safetensors"):
        save_file(state, snapshot / filename)
    else:
        torch.save(state, snapshot / filename)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "WEIGHTS_FOLDER", tmp_path / "nothing")
    model = build_model(CVT_13)
    load_pretrained(model, CVT_13)
    ours = model.backbone.stages[2].blocks[9].attention.linear_q.weight
    theirs = oracle.encoder.stages[2].layers[9].attention.attention.projection_query.weight
    assert torch.equal(ours, theirs)


def test_no_weights_is_an_error_that_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"put CvT-13-384x384-IN-22k\.pth .*hf download microsoft/cvt-13-384-22k"):
        load_pretrained(build_model(CVT_13), CVT_13)


@pytest.mark.parametrize("filename", ["model.safetensors", pytest.param("pytorch_model.bin", marks=pytest.mark.slow)])
def test_imagenet_weights_are_downloaded_once(filename, hub, tmp_path, monkeypatch):
    state = {
        f"cvt.{name}": each.contiguous() for name, each in CvtModel(CvtConfig(depth=[1, 2, 10])).state_dict().items()
    }
    file = tmp_path / filename
    (save_file if filename.endswith("safetensors") else torch.save)(state, file)
    hub.push("microsoft/cvt-13-384-22k", {filename: file.read_bytes()})
    monkeypatch.setattr(weights, "WEIGHTS_FOLDER", tmp_path / "nothing")
    assert "cvt-13-384-22k" in load_pretrained(build_model(CVT_13), CVT_13)
    hub.requests.clear()
    load_pretrained(build_model(CVT_13), CVT_13)
    assert hub.requests == []


def test_nano_has_no_imagenet_weights():
    settings = ModelSettings(backbone="cvt_nano", pretrained="imagenet22k")
    with pytest.raises(UserError, match="exists for cvt_21, cvt_13, not for cvt_nano"):
        load_pretrained(build_model(settings), settings)


def test_stages_that_nothing_reads_are_left_out_and_named(trained, cvt_file):
    settings = ModelSettings(backbone="cvt_13", pretrained=str(cvt_file), stages=(1, 2))
    model = build_model(settings)
    assert "left out: stages 3" in load_pretrained(model, settings)
    assert torch.equal(model.backbone.stages[1].embedding.conv.weight, trained.backbone.stages[1].embedding.conv.weight)


def test_other_depth_is_refused(cvt_file):
    settings = ModelSettings(pretrained=str(cvt_file))
    with pytest.raises(UserError, match=r"does not fit this network: of \d+ names, \d+ missing"):
        load_pretrained(build_model(settings), settings)


def test_own_checkpoint_starts_the_whole_network(trained, tmp_path):
    save_checkpoint(tmp_path / "best.pt", {"model": trained.state_dict(), "config": {}, "scale": {}})
    settings = ModelSettings(backbone="cvt_13", pretrained=str(tmp_path / "best.pt"))
    model = build_model(settings)
    assert "whole network" in load_pretrained(model, settings)
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("own", "remark"), [(1.0, "; its temperature 1.3 is not used"), (1.3, "")])
def test_the_temperature_of_a_calibrated_checkpoint_is_that_of_the_config(own, remark, trained, tmp_path):
    config = {"model": {"temperature": 1.3}}
    save_checkpoint(tmp_path / "best.pt", {"model": trained.state_dict(), "config": config, "scale": {}})
    settings = ModelSettings(backbone="cvt_13", pretrained=str(tmp_path / "best.pt"), temperature=own)
    model = build_model(settings)
    assert load_pretrained(model, settings) == f"weights: whole network from {tmp_path / 'best.pt'}{remark}"
    assert model.temperature == own


def wrapped(state: dict, how: str) -> dict:
    """Return a state dict as other programs and torch's wrappers save it."""
    return {
        "plain": lambda: state,
        "data parallel": lambda: {f"module.{name}": each for name, each in state.items()},
        "compiled": lambda: {f"_orig_mod.{name}": each for name, each in state.items()},
        "compiled in data parallel": lambda: {f"module._orig_mod.{name}": each for name, each in state.items()},
        "compiled backbone": lambda: {
            name.replace("backbone.", "backbone._orig_mod."): each for name, each in state.items()
        },
        "averaged": lambda: {"n_averaged": torch.tensor(3)} | {f"module.{name}": each for name, each in state.items()},
        "lightning": lambda: {"epoch": 3, "state_dict": {f"model.net.{name}": each for name, each in state.items()}},
        "timm": lambda: {
            "epoch": 1,
            "state_dict": {name: each + 1 for name, each in state.items()},
            "state_dict_ema": state,
        },
        "nested": lambda: {"model": {"state_dict": state}, "optimizer": {"state": {}}},
    }[how]()


WRAPPED = ("plain", "data parallel", "compiled", "compiled in data parallel", "compiled backbone", "averaged")


@pytest.mark.parametrize("how", [*WRAPPED, "lightning", "timm", "nested"])
@pytest.mark.parametrize("part", ["network", "backbone"])
def test_state_dicts_of_other_programs(trained, how, part, tmp_path):
    state = (trained if part == "network" else trained.backbone).state_dict()
    torch.save(wrapped(state, how), tmp_path / "w.pth")
    settings = ModelSettings(backbone="cvt_13", pretrained=str(tmp_path / "w.pth"))
    model = build_model(settings)
    load_pretrained(model, settings)
    assert backbones_equal(model, trained)
    assert torch.equal(model.algorithmic[1].weight, trained.algorithmic[1].weight) == (part != "backbone")


@pytest.mark.parametrize("backbone", ["cvt_nano", "timm:resnet18"])
def test_backbone_of_a_network_with_other_bins(backbone, tmp_path):
    settings = ModelSettings(backbone=backbone, pretrained=str(tmp_path / "best.pt"))
    trained = build_model(settings)
    save_checkpoint(tmp_path / "best.pt", {"model": trained.state_dict(), "config": {}, "scale": {}})
    with pytest.raises(UserError, match=r"\(5, \d+\) there, \(10, \d+\) here; model.pretrained_part=backbone loads"):
        load_pretrained(build_model(settings, 10), settings)
    model, part = build_model(settings, 10), settings.model_copy(update={"pretrained_part": "backbone"})
    assert load_pretrained(model, part).endswith("; head: random")
    assert backbones_equal(model, trained)


def test_release_checkpoint_starts_the_whole_network(tmp_path):
    torch.manual_seed(2)
    release = build_model()
    torch.save(
        wrapped(to_official(release.state_dict(), complete=True), "compiled in data parallel"), tmp_path / "r.pth"
    )
    settings = ModelSettings(pretrained=str(tmp_path / "r.pth"))
    model = build_model(settings)
    load_pretrained(model, settings)
    assert torch.equal(model.memory.long.gate_w.weight, release.memory.long.gate_w.weight)


def test_timm_file_fills_the_backbone_exactly(tmp_path):
    torch.manual_seed(3)
    weights = timm.create_model("resnet18").state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    settings = ModelSettings(backbone="timm:resnet18", pretrained=str(tmp_path / "resnet18.pth"))
    model = build_model(settings)
    load_pretrained(model, settings)
    assert torch.equal(model.backbone.model.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])
    del weights["layer4.1.conv2.weight"]
    torch.save(weights, tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"layer4\.1\.conv2\.weight"):
        load_pretrained(build_model(settings), settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no weights", "is not a checkpoint"),
        ({"something.weight": torch.zeros(1)}, "no known kind"),
        ({"epoch": 3}, "contains no state dict, .* its keys: epoch"),
        ([1, 2], "contains a list"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    settings = ModelSettings(pretrained=str(path))
    with pytest.raises(UserError, match=message):
        load_pretrained(build_model(settings), settings)


def test_missing_file_is_named(tmp_path):
    settings = ModelSettings(backbone="cvt_nano", pretrained=str(tmp_path / "none.pth"))
    with pytest.raises(MissingFileError, match=r"none\.pth does not exist"):
        load_pretrained(build_model(settings), settings)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_modes_of_the_caller_do_not_change_a_loaded_network(dtype, tmp_path):
    config = Config(model={"backbone": "cvt_nano"})
    plain = config.model_dump(mode="json")
    content = {"config": plain, "scale": plain["scale"], "model": build_model(config.model).state_dict()}
    save_checkpoint(tmp_path / "best.pt", content)
    try:
        torch.set_default_dtype(dtype)
        with torch.inference_mode():
            model = load_network(tmp_path / "best.pt").model
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    model(torch.zeros(2, 3, 32, 32)).var().backward()  # an inference tensor would refuse
