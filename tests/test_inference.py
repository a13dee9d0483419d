"""Scoring images with a checkpoint alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.scale import RatingScale
from inference import load_predictor, main, parse_scale
from models import build_model
from models.official import to_official
from utils.checkpoint import save_checkpoint
from utils.config import config_from_dict
from utils.errors import MissingFileError, UserError
from utils.run_folder import newest_best
from utils.settings import ModelSettings

ROOT = Path(__file__).parents[1]
ACR = RatingScale(1, 5, (1, 2, 3, 4, 5))
SETTINGS = {
    "model": {"backbone": "cvt_nano"},
    "transform": {"resize": 40, "crop": 32},
    "scale": {"low": 0, "high": 100, "bin_centers": [10, 30, 50, 70, 90], "higher_is_better": False},
}


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    torch.manual_seed(0)
    config = config_from_dict(SETTINGS, "test").model_dump(mode="json")
    model = build_model(ModelSettings(backbone="cvt_nano"))
    path = tmp_path / "checkpoint" / "a" / "split_01" / "best.pt"
    save_checkpoint(path, {"model": model.state_dict(), "config": config, "scale": config["scale"]})
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def release_checkpoint(tmp_path) -> Path:
    torch.manual_seed(1)
    state = to_official(build_model().state_dict(), complete=True)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "release.pth")
    return tmp_path / "release.pth"


def test_path_and_picture_give_the_same(checkpoint, photo):
    predictor = load_predictor(checkpoint, device="cpu")
    prediction = predictor(photo)
    assert prediction == predictor(Image.open(photo)) == predictor(str(photo))
    assert prediction.scale == predictor.scale == RatingScale(0, 100, (10, 30, 50, 70, 90), higher_is_better=False)
    assert sum(prediction.dos) == pytest.approx(1, abs=1e-6)
    assert prediction.mos == pytest.approx(np.dot(prediction.dos, prediction.scale.bin_centers))
    spread = np.dot(prediction.dos, (np.array(prediction.scale.bin_centers) - prediction.mos) ** 2) ** 0.5
    assert prediction.sos == pytest.approx(spread)


def test_text_shows_mos_sos_and_bars(checkpoint, photo, capsys):
    assert main([str(photo), str(photo), "--checkpoint", str(checkpoint), "--device", "cpu"]) == 0
    output = capsys.readouterr().out
    prediction = load_predictor(checkpoint, device="cpu")(photo)
    assert output.startswith(f"checkpoint {checkpoint}\n\n{photo}\n")
    assert output.count(f"{prediction.mos:.3f}  (scale 0 to 100, lower is better)") == 2
    assert output.count("DOS") == 10
    assert f"{100 * prediction.dos[0]:.1f} %" in output


def test_json_is_plain_data(checkpoint, photo, capsys):
    main([str(photo), "--checkpoint", str(checkpoint), "--format", "json", "--device", "cpu"])
    read = json.loads(capsys.readouterr().out)
    prediction = load_predictor(checkpoint, device="cpu")(photo)
    assert read["checkpoint"] == str(checkpoint)
    assert read["images"] == [
        {
            "path": str(photo),
            "mos": prediction.mos,
            "sos": prediction.sos,
            "dos": list(prediction.dos),
            "scale": {"low": 0, "high": 100, "bin_centers": [10, 30, 50, 70, 90], "higher_is_better": False},
        }
    ]


def test_newest_best_is_the_default(checkpoint, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    newer = tmp_path / "checkpoint" / "b" / "split_02" / "best.pt"
    newer.parent.mkdir(parents=True)
    newer.write_bytes(checkpoint.read_bytes())
    os.utime(checkpoint, (1, 1))
    assert newest_best(Path("checkpoint")).resolve() == newer
    main([str(photo)])
    assert capsys.readouterr().out.startswith("checkpoint checkpoint/b/split_02/best.pt")


def test_no_run_yet_names_what_to_do(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r"`python main\.py` trains the demo"):
        main([str(photo)])


def test_release_checkpoint_scores_with_a_stated_scale(release_checkpoint, photo, capsys):
    with pytest.raises(UserError, match="does not carry its rating scale"):
        load_predictor(release_checkpoint)
    predictor = load_predictor(release_checkpoint, device="cpu", scale=ACR)
    torch.manual_seed(1)
    model = build_model().eval()
    with torch.inference_mode():
        expected = model(predictor.transform(Image.open(photo))[None])
    prediction = predictor(photo)
    assert prediction.dos == pytest.approx(expected[0].tolist(), abs=1e-6)
    for option in (["--scale", "acr"], ["--config", str(ROOT / "configs" / "koniq10k.yaml")]):
        main([str(photo), "--checkpoint", str(release_checkpoint), "--device", "cpu", *option])
        assert f"MOS {prediction.mos:8.3f}  (scale 1 to 5" in capsys.readouterr().out


def test_config_of_a_release_checkpoint_sets_the_transform(release_checkpoint, photo):
    settings = {"transform": {"resize": 224, "crop": 224}, "scale": SETTINGS["scale"]}
    predictor = load_predictor(release_checkpoint, device="cpu", config=config_from_dict(settings, "test"))
    assert predictor.transform(Image.open(photo)).shape == (3, 224, 224)
    assert predictor(photo).scale.high == 100


def test_a_bad_file_does_not_cost_the_others(checkpoint, photo, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("hello")
    for form in ("text", "json"):
        with pytest.raises(UserError, match=r"text\.jpg is not an image"):
            main([str(tmp_path / "text.jpg"), str(photo), "--checkpoint", str(checkpoint), "--format", form])
        output = capsys.readouterr().out
        assert f"{load_predictor(checkpoint, device='cpu')(photo).mos:.3f}"[:4] in output


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.uint8), b"bytes", None])
def test_other_types_are_named(image, checkpoint):
    with pytest.raises(UserError, match=f"got {type(image).__name__}; .*fromarray"):
        load_predictor(checkpoint, device=torch.device("cpu"))(image)


def test_foreign_weights_are_no_release_checkpoint(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(UserError, match="no known kind"):
        load_predictor(tmp_path / "linear.pt")


def test_a_network_gone_wrong_gives_no_score(checkpoint, photo):
    content = torch.load(checkpoint, weights_only=True)
    content["model"]["algorithmic.0.bias"].fill_(float("nan"))
    save_checkpoint(checkpoint, content)
    with pytest.raises(UserError, match="predicts values that are not finite"):
        load_predictor(checkpoint, device="cpu")(photo)


def test_pipes_that_close_and_terminals_without_bars(checkpoint, photo):
    command = [sys.executable, ROOT / "inference.py", *[photo] * 3, "--checkpoint", checkpoint]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    assert process.stdout.readline().startswith("checkpoint")
    process.stdout.close()
    assert process.stderr.read() == ""


def test_own_checkpoint_refuses_another_scale(checkpoint):
    with pytest.raises(UserError, match="carries its own rating scale and config"):
        load_predictor(checkpoint, scale=ACR)


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("acr", ACR),
        ("1,5:1,2,3,4,5", ACR),
        ("0,100", RatingScale(0, 100, (10, 30, 50, 70, 90))),
        ("0,5", RatingScale(0, 5, (0.5, 1.5, 2.5, 3.5, 4.5))),
        ("0,10:2,8", RatingScale(0, 10, (2, 8))),
    ],
)
def test_scales_in_words(text, scale):
    assert parse_scale(text) == scale


@pytest.mark.parametrize("text", ["five", "1", "1,2,3", "0,100:a", "5,1", ""])
def test_what_is_no_scale(text):
    with pytest.raises(UserError, match="scale"):
        parse_scale(text)


def test_other_architecture_is_one_clear_line(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["model"]["backbone"] = "cvt_13"
    save_checkpoint(checkpoint, content)
    with pytest.raises(UserError, match=r"does not fit this network: of \d+ names, \d+ missing"):
        load_predictor(checkpoint)
    content["config"]["model"]["backbone"] = "cvt_nano"
    content["config"]["scale"]["bin_centers"] = [10, 90]
    save_checkpoint(checkpoint, content)
    with pytest.raises(UserError, match=r"is \(5, 224\) there, \(2, 224\) here"):
        load_predictor(checkpoint)


def test_backbone_weights_are_no_network(tmp_path):
    official = to_official(build_model().state_dict())
    cvt = {name.removeprefix("net."): tensor for name, tensor in official.items() if name.startswith("net.stage")}
    torch.save(cvt, tmp_path / "cvt.pth")
    with pytest.raises(UserError, match="holds a backbone, not a trained RichIQA"):
        load_predictor(tmp_path / "cvt.pth", scale=ACR)


@pytest.mark.parametrize("kind", ["text file", "missing files", "mistyped flag", "text file as checkpoint"])
@pytest.mark.usefixtures("photo")
def test_mistakes_end_with_status_2_and_one_line(kind, checkpoint, tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear colleagues")
    arguments, expected = {
        "text file": (["letter.jpg", "--checkpoint", checkpoint], "letter.jpg is not an image"),
        "missing files": (["a.png", "photo.png", "b.png"], "2 of 3 images are not files: a.png, b.png"),
        "mistyped flag": (["photo.png", "--formt", "json"], "--formt"),
        "text file as checkpoint": (["photo.png", "--checkpoint", "letter.jpg"], "letter.jpg is not a checkpoint"),
    }[kind]
    command = [sys.executable, ROOT / "inference.py", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert expected in done.stderr.splitlines()[-1]
