"""Heads on a frozen backbone are those of the whole network."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from scipy.stats import t

from datasets.database import load_databases
from datasets.transforms import build_test_transform, build_train_crop, seeded, to_images
from experiments.evaluation.head_ablation import METRICS, ablate, extract, predict, to_text, train_head
from models import build_model
from models.weights import load_network
from tests.databases import write_database
from tests.running import ROOT
from tools.ablate_head import main
from tools.export import main as export
from utils.checkpoint import save_checkpoint
from utils.config import load_config
from utils.errors import UserError
from utils.runtime import derive_seed

SMALL = (
    *("transform.resize=72", "transform.crop=64", "model.backbone=cvt_nano", "model.pretrained=none"),
    *("train.batch_size=4", "train.workers=0", "train.epochs=2", "protocol.splits=3", "optim.lr=1e-3"),
)


@pytest.fixture
def settings(tmp_path):
    return [*SMALL, f"dataset.root={write_database('koniq10k', tmp_path / 'koniq10k').root}"]


@pytest.fixture
def checkpoint(tmp_path, settings):
    config = load_config(ROOT / "configs/koniq10k.yaml", settings)
    torch.manual_seed(0)
    plain = config.model_dump(mode="json")
    content = {"model": build_model(config.model).state_dict(), "config": plain, "scale": plain["scale"]}
    save_checkpoint(tmp_path / "best.pt", content)
    return tmp_path / "best.pt"


@pytest.mark.parametrize(("stages", "side"), [("all", "null"), ("[1,3]", "72")])
def test_predictions_are_those_of_the_whole_network(checkpoint, settings, stages, side):
    more = (f"model.stages={stages}", f"transform.test_crop={side}")
    config = load_config(ROOT / "configs/koniq10k.yaml", [*settings, *more])
    (database,) = load_databases(config)
    network = load_network(checkpoint)
    features = extract(network, database, config, views=2)
    assert features.train.shape == (2, len(database.records), 224)
    assert not torch.equal(features.train[0], features.train[1])
    first = sorted(database.records)[0]
    image = database.source.opener([first], config.transform.resize)(database.records[first].image)
    crop = seeded(build_train_crop(config.transform), image, derive_seed(config.seed, len(database.records)))
    with torch.inference_mode():
        seen = network.model.features(to_images(crop[None]))[0]
    torch.testing.assert_close(features.train[1, 0], seen, atol=1e-5, rtol=0)
    names = list(database.records)[::-2]
    model = train_head(features, database, database.split(config, 1), config, seed=1)
    model.backbone.load_state_dict(network.model.backbone.state_dict())
    open_image = database.source.opener(names, config.transform.resize)
    images = [build_test_transform(config.transform)(open_image(database.records[name].image)) for name in names]
    with torch.inference_mode():
        expected = model(torch.stack(images)).double()
    torch.testing.assert_close(torch.from_numpy(predict(model, features, names)), expected, atol=1e-6, rtol=0)


def test_heads_learn(checkpoint, settings):
    found = []
    for epochs in (1, 40):
        config = load_config(ROOT / "configs/koniq10k.yaml", [*settings, f"train.epochs={epochs}"])
        (database,) = load_databases(config)
        features, split = extract(load_network(checkpoint), database, config, views=1), database.split(config, 1)
        model = train_head(features, database, split, config, seed=1)
        found.append(database.metrics(split.train, predict(model, features, split.train)))
    assert found[1]["emd"] < 0.8 * found[0]["emd"]
    assert found[1]["rmse_raw"] < found[0]["rmse_raw"]
    blind = replace(features, train=torch.zeros_like(features.train))  # training sees these crops alone
    assert (
        predict(train_head(blind, database, split, config, seed=1), features, split.test)
        != predict(model, features, split.test)
    ).any()


def test_variants_are_compared_split_by_split(checkpoint, settings):
    varied = ("", "dataset.dos=gaussian", "loss.mos=0", "train.epochs=3")
    variants = {key: load_config(ROOT / "configs/koniq10k.yaml", [*settings, *key.split()]) for key in varied}
    rows = ablate(load_network(checkpoint), variants, views=1, splits=2)
    assert list(rows["variant"]) == [key for key in varied for _ in range(2)]
    emd = rows.groupby("split")["emd"]
    assert (emd.nunique() == len(varied)).all()  # each has its own labels, loss and optimisation
    again = ablate(load_network(checkpoint), {"loss.mos=0": variants["loss.mos=0"]}, views=1, splits=2)
    pd.testing.assert_frame_equal(again, rows[rows["variant"] == "loss.mos=0"].reset_index(drop=True))


def test_the_table_has_the_corrected_test():
    srcc = {"a": (0.5, 0.6, 0.7), "b": (0.7, 0.7, 0.85)}
    rows = [
        {"variant": name, "split": number, "test_share": 0.25, **dict.fromkeys(METRICS, value), "srcc": value}
        for name, values in srcc.items()
        for number, value in enumerate(values, start=1)
    ]
    statistic = 0.15 / (0.05**2 * (1 / 3 + 0.25)) ** 0.5  # of the differences .2, .1 and .15, whose variance is .05 ^ 2
    cells = [cell.strip() for cell in to_text(pd.DataFrame(rows[::-1][3:] + rows[3:])).splitlines()[3].split("|")]
    assert cells[1:3] == ["b", "0.7500 ± 0.0866"]
    assert cells[-3:-1] == ["+0.1500", f"{2 * t.sf(statistic, 2):.3g}"]


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        ("model.backbone=cvt_13", "model.backbone is cvt_13, but .*best.pt has cvt_nano; it is frozen"),
        ("transform.crop=48", "crop=48: transform differs from the first variant's"),
        ("optim.learning=1", "optim.learning"),
    ],
)
def test_variants_that_cannot_be_compared(checkpoint, settings, varied, message):
    command = ["--checkpoint", str(checkpoint), "--config", str(ROOT / "configs/koniq10k.yaml"), *settings]
    with pytest.raises(UserError, match=message):
        main([*command, "--views", "1", "--vary", varied])


def test_a_network_without_all_stages_is_refused(tmp_path, settings):
    config = load_config(ROOT / "configs/koniq10k.yaml", [*settings, "model.stages=[2]"])
    plain = config.model_dump(mode="json")
    content = {"model": build_model(config.model).state_dict(), "config": plain, "scale": plain["scale"]}
    save_checkpoint(tmp_path / "one.pt", content)
    with pytest.raises(UserError, match=r"model.stages is \[2\]; name a network that was trained on all"):
        ablate(load_network(tmp_path / "one.pt"), {"v": config}, views=1, splits=1)


def test_the_tool_writes_every_split(checkpoint, settings, hub, tmp_path, capsys):
    output = tmp_path / "heads.csv"
    assert export([str(checkpoint), "--output", str(tmp_path / "model.safetensors")]) == 0
    hub.push("owner/name", {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()})
    command = ["--checkpoint", "hf://owner/name", "--config", str(ROOT / "configs/koniq10k.yaml"), *settings]
    assert main([*command, "--views", "1", "--vary", "loss.mos=0 loss.sos=0", "--output", str(output)]) == 0
    rows = pd.read_csv(output)
    assert sorted(set(rows["variant"])) == ["loss.mos=0 loss.sos=0", "the config"]
    assert len(rows) == 6
    assert "| loss.mos=0 loss.sos=0 |" in capsys.readouterr().out
