"""What other programs rely on: the names they import, what these take and give, and the options of every command."""

import inspect
import re
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datasets import READERS, Record, read_records
from datasets.scale import RatingScale
from inference import load_predictor
from losses import JointLoss
from models import build_model
from models.official import from_official, to_official
from utils.checkpoint import save_checkpoint
from utils.config import load_config
from utils.metrics import distribution_metrics, score_metrics

ACR = (1.0, 2.0, 3.0, 4.0, 5.0)
PARAMETERS = {  # by what is imported; an = marks one that may be omitted
    "datasets.read_records": "name root check_images= options",
    "datasets.Record": "image mos sos dos reference= split= name= image_set=",
    "datasets.scale.RatingScale": "low high bin_centers higher_is_better=",
    "models.build_model": "settings= num_bins=",
    "models.official.from_official": "state_dict",
    "models.official.to_official": "state_dict complete=",
    "losses.JointLoss": "scale sos_a= dos= mos= sos= sos_target= units= database_weights= rank= best_last=",
    "scoring.opinions.compare": "a b panel= correlation=",
    "scoring.opinions.panel_mean": "dos scale people=",
    "utils.metrics.score_metrics": "pred_mos target_mos",
    "utils.metrics.distribution_metrics": "pred_dos target centers",
    "utils.config.load_config": "path= overrides=",
    "utils.checkpoint.save_checkpoint": "path content",
    "inference.load_predictor": "checkpoint= device= scale= config= preprocess= pictures= precision= compiled= "
    "threads=",
}
OPTIONS = {  # by the module of a script, what its usage names
    "main": "--config --resume --overwrite --split --evaluate --trained-with --part --output key.subkey=value",
    "inference": "IMAGE --list --image-column --root --recursive --checkpoint --device --batch-size "
    "--threads --precision --compile --scale --config --preprocess --workers --decode --max-pixels --truncated "
    "--background --format --output --relative-to --resume --overwrite --strict --keep --best --panel --report --map "
    "--engine --ray-address --image-bytes",
    "app": "--checkpoint --device --scale --port",
    "tools.check_dataset": "--config --dataset --root --decode --all --picture --no-picture --save-splits "
    "key.subkey=value",
    "tools.compare_labels": "--annotations --release --write",
    "tools.export": "CHECKPOINT --format --half --output --evaluations --overwrite --scale --trained-with",
    "tools.draw_architecture": "--output",
    "tools.list_licences": "",
    "tools.list_settings": "--write",
    "tools.ablate_head": "KEY=VALUE --checkpoint --config --vary --views --output",
    "tools.model_card": "IMAGE --list --image-column --root --recursive --checkpoint --evaluations --observation "
    "--output",
    "tools.report": "RUN",
    "tools.robustness": "IMAGE --list --image-column --root --recursive --checkpoint --device --preprocess "
    "--batch-size --output",
    "tools.score_examples": "--checkpoint",
    "tools.summarize": "RUN --baseline --selection --metrics --format --output",
}


@pytest.mark.parametrize("path", PARAMETERS)
def test_parameters(path):
    module, _, name = path.rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters.values()
    told = [f"{one.name}=" if one.default is not one.empty else one.name for one in parameters]
    assert told == PARAMETERS[path].split()


@pytest.mark.parametrize("script", OPTIONS)
def test_options(script, capsys):
    with pytest.raises(SystemExit, match="0"):
        import_module(script).main(["--help"])
    usage = capsys.readouterr().out.split("\n\n")[0]
    options = set(re.findall(r"--[a-z-]+", usage))
    assert options == {word for word in OPTIONS[script].split() if word.startswith("--")}
    assert all(word in usage for word in OPTIONS[script].split())


def test_records_of_a_database(tmp_path):
    pd.DataFrame({"image": ["a.png"], "mos": [3.0], "sos": [0.5]}).to_csv(tmp_path / "labels.csv", index=False)
    scale = RatingScale(1, 5, ACR)
    (record,) = read_records("csv", tmp_path, check_images=False, scale=scale, labels="labels.csv")
    assert isinstance(record, Record)
    assert (record.image, record.mos, record.sos, len(record.dos)) == ("a.png", 3.0, 0.5, 5)
    assert {"koniq10k", "spaq", "bid", "clive", "flive", "kadid10k", "csiq", "livemd", "cid2013", "vclfer"} < {*READERS}


def test_network_loss_and_names_of_the_release():
    model = build_model().eval()
    state = model.state_dict()
    assert from_official(to_official(state, complete=True)).keys() == state.keys()
    with torch.no_grad():
        dos = model(torch.zeros(1, 3, 64, 64))
    assert dos.shape == (1, 5)
    scale = RatingScale(1, 5, ACR)
    assert torch.allclose(scale.mean(dos), dos @ torch.tensor(ACR))
    losses = JointLoss(scale)(dos, {"dos": dos, "mos": scale.mean(dos), "sos": scale.std(dos)})
    assert losses.keys() == {"total", "dos", "mos", "sos"}
    assert losses["mos"] == 0


def test_metrics():
    mos = np.linspace(1.5, 4.5, 20)
    assert {"srcc", "plcc", "krcc", "rmse"} <= score_metrics(mos, mos).keys()
    assert score_metrics(mos, mos)["srcc"] == pytest.approx(1)
    dos = np.full((20, 5), 0.2)
    metrics = distribution_metrics(dos, {"dos": dos, "mos": mos}, np.array(ACR))
    assert {"jsd", "emd", "kl", "intersection", "cosine"} <= metrics.keys()
    assert metrics["emd"] == 0


def test_a_saved_checkpoint_scores_an_image(tmp_path):
    config = load_config(overrides=["model.backbone=cvt_nano", "transform.resize=40", "transform.crop=32"])
    plain = config.model_dump(mode="json")
    content = {"model": build_model(config.model).state_dict(), "config": plain, "scale": plain["scale"]}
    save_checkpoint(tmp_path / "best.pt", content)
    prediction = load_predictor(tmp_path / "best.pt", "cpu")(Image.new("RGB", (50, 60)))
    assert 1 <= prediction.mos <= 5
    assert len(prediction.dos) == 5
