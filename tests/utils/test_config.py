"""YAML to Config: every file in configs/, and messages that help."""

from pathlib import Path

import pytest
import yaml

from utils.config import changed_keys, config_from_dict, dump_config, flatten, load_config
from utils.errors import MissingFileError, UserError
from utils.settings import Config

CONFIGS = Path(__file__).parents[2] / "configs"


def written(tmp_path: Path, text: str, name: str = "a.yaml") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_experiments_are_complete_or_extend_one(path):
    values = yaml.safe_load(path.read_text())
    if "extends" not in values:
        assert set(flatten(values)) == set(flatten(Config().model_dump()))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("ablations/*.yaml")), ids=lambda path: path.name)
def test_ablations_say_only_their_difference(path):
    changed = changed_keys(load_config(CONFIGS / "koniq10k.yaml"), load_config(path))
    said = flatten(yaml.safe_load(path.read_text()))
    assert len(changed) == len(said) - 1  # all but `extends`
    names = {"baseline": "koniq10k"}  # the recipe's own run
    assert load_config(path).run.name == names.get(path.stem, f"koniq10k_{path.stem}")


def test_koniq10k_is_the_release():
    config = load_config(CONFIGS / "koniq10k.yaml")
    assert changed_keys(config, Config(), ignored=("dataset.dos", "dataset.sos_source", "dataset.sos_a")) == [
        "model.pretrained: imagenet22k then, none now"
    ]
    assert (config.optim.name, config.optim.lr, config.optim.weight_decay) == ("adam", 1e-5, 5e-7)
    assert (config.train.epochs, config.train.batch_size, config.schedule.name) == (50, 32, "constant")
    assert (config.loss.dos, config.loss.mos, config.loss.sos, config.loss.sos_a) == (100, 5, 0.5, 0.09)


def test_scientific_numbers_are_numbers(tmp_path):
    path = written(tmp_path, "optim: {lr: 1e-5, weight_decay: 5E-7}\nloss: {sos_a: 9e-2}\n")
    config = load_config(path, ["optim.lr=3e-4"])
    assert (config.optim.lr, config.optim.weight_decay, config.loss.sos_a) == (3e-4, 5e-7, 0.09)


def test_words_and_dates_are_text():
    for text in ("no", "on", "2024-01-02", "7"):
        assert load_config(None, [f"run.name={text}"]).run.name == text
    with pytest.raises(UserError, match=r"the command line: optim\.lr: .*got 'yes'"):
        load_config(None, ["optim.lr=yes"])


def test_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert load_config(None, ["dataset.root=~/koniq"]).dataset.root == "/home/me/koniq"


def test_extends_merges_deeply_and_overrides_win(tmp_path):
    written(tmp_path, "optim: {lr: 0.1, name: adamw}\nseed: 4\n", "base.yaml")
    path = written(tmp_path, "extends: base.yaml\noptim: {lr: 0.2}\nmodel: {stages: [1, 2]}\n")
    config = load_config(path, ["model.stages=[3]", "run.name=x"])
    assert (config.optim.lr, config.optim.name, config.seed, config.model.stages) == (0.2, "adamw", 4, (3,))


def test_dump_is_read_back(tmp_path):
    config = load_config(CONFIGS / "demo.yaml", ["optim.clip_norm=1", "model.stages=[1,3]"])
    assert load_config(written(tmp_path, dump_config(config))) == config


def test_changed_keys():
    other = config_from_dict({"optim": {"lr": 1}, "run": {"root": "x"}}, "here")
    assert changed_keys(Config(), other, ignored=("run.root",)) == ["optim.lr: 1e-05 then, 1.0 now"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {learning_rate: 1}", r"unknown key 'optim.learning_rate'.*known here: name, lr"),
        ("optim: {weigth_decay: 1}", r"did you mean 'weight_decay'\?"),
        ("trian: {epochs: 1}", r"unknown key 'trian' \(did you mean 'train'\?\)"),
        ("optim: {lr: fast}", r"optim.lr: .*valid number.*got 'fast'"),
        ("optim: {lr: -1}", "optim.lr: .*greater than 0"),
        ("optim: {lr: .inf}", "optim.lr: .*finite"),
        ("model: {memory: all}", "model.memory: .*'full', 'short', 'long' or 'none'.*got 'all'"),
        ("model: {stages: [2, 1]}", "rising order"),
        ("model: {stages: []}", "rising order"),
        ("loss: {dos: 0, mos: 0, sos: 0}", "at least one"),
        ("model: {stages: [1, x]}", "model.stages: .*valid integer"),
        ("loss: {sos_a: much}", "loss.sos_a: Input should be a valid number.* or .*'fit' or .*, got 'much'$"),
        ("transform: {resize: 100, crop: 200}", r"crop \(200\) must not be larger"),
        ("protocol: {selection: validation}", "needs a validation part"),
        ("protocol: {method: official}", "set splits to 1"),
        ("protocol: {method: official, splits: 1, validation_fraction: 0.1}", "its own validation part"),
        ("protocol: {validation_fraction: 0.9}", "must be below train_fraction"),
        ("run: {name: ../x}", "run.name"),
        ("train: 5", "train: .*got 5"),
        ("- 1", "mapping"),
        ("a: [1", r"a\.yaml, line 1, column 6"),
        ("seed: 1\nseed: 2", "given twice: seed"),
        ("extends: a.yaml", "leads back"),
    ],
)
def test_mistakes_in_a_file(text, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "a.yaml" in str(caught.value)


@pytest.mark.parametrize("override", ["optim.lr", "=3", "optim.lr=[1", "optim.lrr=3", "optim.lr.x=3", "a.b.c=3"])
def test_mistakes_on_the_command_line(override):
    with pytest.raises(UserError) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


def test_missing_config_lists_those_there(tmp_path):
    written(tmp_path, "", "b.yaml")
    with pytest.raises(MissingFileError, match=r"does not exist; YAML files in .*b\.yaml"):
        load_config(tmp_path / "a.yaml")
