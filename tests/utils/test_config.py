"""YAML to Config: every file in configs/, and messages that help."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from utils.config import (
    changed_keys,
    config_from_dict,
    dump_config,
    flatten,
    load_config,
    parse_yaml,
    resolve_scalars,
)
from utils.errors import MissingFileError, UserError
from utils.settings import Config

CONFIGS = Path(__file__).parents[2] / "configs"


def doubled(times: int, value: str) -> str:
    """Return YAML lines that each hold the value before twice, from the anchor `a0` on, with `*a0` for `{0}`."""
    return "\n".join(f"x-{n}: &a{n} {value.format(f'*a{n - 1}')}" for n in range(1, times + 1))


def written(tmp_path: Path, text: str, name: str = "a.yaml") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_experiments_are_complete_or_extend_one(path):
    values = yaml.safe_load(path.read_text())
    if "extends" not in values:
        whole = Config().model_dump()
        (dataset,) = whole["dataset"]
        alone = {key: value for key, value in dataset.items() if key not in ("scale", "weight")}
        several = [{**dataset, "scale": None}] * len(values["dataset"])
        expected = several if isinstance(values["dataset"], list) else alone
        assert set(flatten(values)) == set(flatten({**whole, "dataset": expected}))


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


LOOKS_LIKE_SOMETHING_ELSE = [
    *("4283e97", "1e5", "1.10", "1.", "007", "010", "0x1F", "0b11", "0o17", "0x_", "1_000", "12:30:45", "190:20:30.15"),
    *("2024-01-01", "2024-01-01T10:00:00Z", "yes", "No", "on", "OFF", "y", "true", "False", ".inf", "-.INF", ".nan"),
    *("+1", "-0", "1e400", "=", "<<"),
]


@pytest.mark.parametrize("text", LOOKS_LIKE_SOMETHING_ELSE)
def test_text_keys_keep_their_text(text, tmp_path):
    """Whatever YAML would make of it: `run.name=$(git rev-parse --short HEAD)` may well be a number."""
    texts = {"dataset": ("title", "name", "root", "labels"), "model": ("backbone", "pretrained"), "train": ("device",)}
    keys = [f"{section}.{key}" for section, names in texts.items() for key in names]
    keys += ["dataset.cache_folder", "run.root"]
    names = ("run.name", "dataset.name", "dataset.title")
    keys = [*(key for key in keys if key not in names), *(names if re.fullmatch(r"\w[\w .+-]*", text) else ())]
    lines = [f"{section}: {{{name}: {text}}}" for section, name in (key.split(".") for key in keys)]
    for key, line in zip(keys, lines, strict=True):
        for config in (load_config(None, [f"{key}={text}"]), load_config(written(tmp_path, line))):
            assert flatten(config.model_dump())[key.replace("dataset", "dataset.0")] == text
            dumped = written(tmp_path, dump_config(config), "dumped.yaml")
            assert load_config(dumped) == config


@pytest.mark.parametrize("key", ["name", "title"])
def test_text_keys_of_several_databases_keep_their_text(key):
    config = load_config(None, ["dataset=[{name: 1.10}, {name: 1.1, title: 0x1F}]", f"dataset.0.{key}=007"])
    assert [dataset.title for dataset in config.dataset] == ["007", "0x1F"]


def test_a_default_that_is_made_of_a_text_keeps_it_too():
    assert load_config(None, ["dataset.name=1.10"]).dataset[0].root == "data/1.10"


def test_null_is_none_and_quotes_make_it_text(tmp_path):
    for text in ("null", "~", "", "Null"):
        assert load_config(None, [f"dataset.labels={text}"]).dataset[0].labels is None
        assert load_config(written(tmp_path, f"dataset:\n  labels: {text}\n")).dataset[0].labels is None
    assert load_config(None, ["dataset.labels='null'"]).dataset[0].labels == "null"
    assert load_config(None, ["run.name=null"]).run.name == "null"  # must have a text, so this is one
    with pytest.raises(UserError, match=r"run\.name: .*valid string.*got None"):
        load_config(None, ["run.name="])


@pytest.mark.parametrize(
    "text", ["[1]", "{a}", "x: y", "- x", "@x", "%x", "*x", "&x", "!x", "`x`", "a, b", "#1", "'", " x"]
)
def test_text_on_the_command_line_is_taken_as_written(text):
    (dataset,) = load_config(None, [f"dataset.root={text}", f"dataset.labels={text}"]).dataset
    assert (dataset.root, dataset.labels) == (text, text)


@pytest.mark.parametrize("key", ["train.batch_size", "optim.lr", "scale.bin_centers"])
@pytest.mark.parametrize("text", ["010", "+007", "1:30"])
def test_unclear_numbers_are_refused(tmp_path, key, text):
    section, name = key.split(".")
    for arguments in ((None, [f"{key}={text}"]), (written(tmp_path, f"{section}: {{{name}: {text}}}\n"), None)):
        with pytest.raises(UserError, match=rf"{section}\.{name}: .*, got '?{re.escape(text)}"):
            load_config(*arguments)


def test_no_text_on_the_command_line_is_taken_for_a_comment():
    config = load_config(None, ["dataset.labels=scores #2.csv", "dataset.root='a #b'", "train.epochs=3 # few"])
    (dataset,) = config.dataset
    assert (dataset.labels, dataset.root, config.train.epochs) == ("scores #2.csv", "a #b", 3)


def test_numeric_keys_keep_their_numbers(tmp_path):
    text = "optim: {lr: 1e-5, clip_norm: 1.10}\nseed: 0x1F\nscale: {low: -1, bin_centers: [1, 2.5, 1e1]}\n"
    config = load_config(written(tmp_path, text), ["train.epochs=1_000", "train.batch_size=10", "train.compile=true"])
    assert (config.optim.lr, config.optim.clip_norm, config.seed) == (1e-5, 1.1, 31)
    assert (config.scale.low, config.scale.bin_centers) == (-1, (1, 2.5, 10))
    assert (config.train.epochs, config.train.batch_size, config.train.compile) == (1000, 10, True)
    with pytest.raises(UserError, match=r"train\.epochs: .*got '1:30'"):  # 90 to YAML 1.1
        load_config(None, ["train.epochs=1:30"])


def test_texts_in_lists_and_mappings_keep_their_text():
    class Lists(BaseModel):
        names: tuple[str, ...]
        either: float | list[str]
        by_name: dict[str, str | None]
        numbers: dict[str, float]

    text = "names: [1.10, yes]\neither: [007]\nby_name: {1.10: 1e5, off: null}\nnumbers: {a: 1e5}\n"
    lists = Lists.model_validate(resolve_scalars(parse_yaml(text, "here"), Lists))
    assert (lists.names, lists.either) == (("1.10", "yes"), ["007"])
    assert (lists.by_name, lists.numbers) == ({"1.10": "1e5", "off": None}, {"a": 1e5})


def test_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert load_config(None, ["dataset.root=~/koniq"]).dataset[0].root == "/home/me/koniq"


def test_extends_merges_deeply_and_overrides_win(tmp_path):
    written(tmp_path, "optim: {lr: 0.1, name: adamw}\nseed: 4\n", "base.yaml")
    path = written(tmp_path, "extends: base.yaml\noptim: {lr: 0.2}\nmodel: {stages: [1, 2]}\n")
    config = load_config(path, ["model.stages=[3]", "run.name=x"])
    assert (config.optim.lr, config.optim.name, config.seed, config.model.stages) == (0.2, "adamw", 4, (3,))


def test_only_configs_are_extended(tmp_path):
    with pytest.raises(UserError, match=r"a\.yaml: `extends` names /etc/passwd, which does not end with \.yaml or"):
        load_config(written(tmp_path, "extends: /etc/passwd\n"))


@pytest.mark.parametrize(
    "override", ["seed" + 9000 * "s", 9000 * "o" + "=1", "seed=[" + 9000 * "1", "seed=" + 9000 * "x"]
)
def test_messages_on_long_overrides_are_short(override):
    with pytest.raises(UserError) as error:
        load_config(None, [override])
    assert len(str(error.value)) < 2000


MERGED = """
x-recipe: &recipe {lr: 1e-3, weight_decay: 1e-4, name: adamw}
x-fast:
  optim: &fast
    <<: *recipe
    lr: 1e-2
optim:
  <<: *fast
  clip_norm: 1
dataset:
- &first
  name: koniq10k
  root: 1.10
  scale: &scale {low: 1, high: 5}
- <<: [{weight: 3}, *first]
  title: second
  weight: 2
scale:
  <<: *scale
"""


def test_merge_keys(tmp_path):
    config = load_config(written(tmp_path, MERGED))
    optim = config.optim
    assert (optim.lr, optim.weight_decay, optim.name, optim.clip_norm) == (1e-2, 1e-4, "adamw", 1)
    first, second = config.dataset
    assert (second.name, second.title, second.root, second.weight) == (first.name, "second", "1.10", 2)
    assert second.scale == first.scale


def test_merged_mappings_do_not_make_keys_given_twice(tmp_path):
    """What an anchor has merged itself is merged before the anchor is read, where that lies deeper."""
    text = "x-a:\n  x-b: {x-c: &c {lr: 1}, x-d: &d {<<: *c, lr: 2}}\noptim:\n  <<: *d\n"
    assert load_config(written(tmp_path, text)).optim.lr == 2


def test_helpers_are_of_their_file_alone(tmp_path):
    written(tmp_path, "x-lr: &lr 0.1\noptim: {lr: *lr}\n", "base.yaml")
    assert load_config(written(tmp_path, "extends: base.yaml\nx-seed: &seed 5\nseed: *seed\n")).optim.lr == 0.1
    with pytest.raises(UserError, match="unknown key 'x-lr'"):
        load_config(None, ["x-lr=1"])


def test_dump_is_read_back(tmp_path):
    config = load_config(CONFIGS / "demo.yaml", ["optim.clip_norm=1", "model.stages=[1,3]"])
    dumped = written(tmp_path, dump_config(config))
    assert load_config(dumped) == config
    for key in ("dataset.root", "dataset.0.root"):
        assert load_config(dumped, [f"{key}=elsewhere"]).dataset[0].root == "elsewhere"


ACR = {"low": 1, "high": 5, "bin_centers": (1, 2, 3, 4, 5), "higher_is_better": True}


def test_one_database_is_a_list_of_one(tmp_path):
    """Whose scale is the config's, and whose title is its name, however it is given."""
    alone = load_config(written(tmp_path, "dataset: {name: bid}\nscale: {low: 0}\n"))
    (dataset,) = alone.dataset
    assert (dataset.title, dataset.root, dataset.scale.model_dump()) == ("bid", "data/bid", {**ACR, "low": 0})
    listed = load_config(written(tmp_path, "dataset: [{name: bid, scale: {low: 0}}]\nscale: {low: 0}\n"))
    assert listed.dataset[0].scale.model_fields_set == {"low"}  # the rest is that of configs/bid.yaml
    assert Config().dataset[0].scale.model_dump() == ACR


def test_changed_keys():
    other = config_from_dict({"optim": {"lr": 1}, "run": {"root": "x"}}, "here")
    assert changed_keys(Config(), other, ignored=("run.root",)) == ["optim.lr: 1e-05 then, 1.0 now"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {learning_rate: 1}", r"unknown key 'optim.learning_rate'.*known keys: name, lr"),
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
        ("transform: {resize: 100, crop: 90, test_crop: 101}", r"test_crop \(101\) must not be larger"),
        ("protocol: {selection: validation}", "needs a validation part"),
        ("protocol: {method: file, splits: 1, validation_fraction: 0.1}", "its own validation part"),
        ("protocol: {validation_fraction: 0.9}", "must be below train_fraction"),
        ("run: {name: ../x}", "run.name"),
        ("train: 5", "train: .*got 5"),
        ("dataset: 5", "dataset: .*got 5"),
        ("dataset: []", "dataset: empty list; give at least one database"),
        ("dataset: {nme: bid}", r"unknown key 'dataset\.nme' \(did you mean 'name'\?\)"),
        ("dataset: {decode: fast}", r"yaml: dataset\.decode: .*got 'fast'$"),
        ("dataset: [{decode: fast}]", r"dataset\.0\.decode: .*got 'fast'$"),
        ("dataset: {scale: {low: 0}}", r"dataset\.scale: only in a list of databases"),
        ("scale: {low: x}", r"a\.yaml: scale\.low: .*got 'x'$"),
        ("- 1", "mapping"),
        ("a: [1", r"a\.yaml, line 1, column 6"),
        ("seed: 1\nseed: 2", "line 2, column 1: given twice: seed"),
        ("<<: {seed: 1}\n<<: {seed: 2}", "line 2, column 1: given twice: <<"),
        ("seed: &a 1\n<<: *a", "line 1, column 7: expected a mapping"),
        ("optim: {x-base: 1}", r"unknown key 'optim\.x-base'"),
        ("x_base: 1", "unknown key 'x_base'"),
        ("5: 1", "unknown key '5'"),
        ("5", "a mapping of keys to values, got int"),
        ("a: !!int x", "line 1, column 4: invalid literal"),
        ("extends: a.yaml", "refers back"),
        ("seed: " + 2000 * "[" + 2000 * "]", "nested too deeply"),
        (f"x-0: &a0 1\n{doubled(40, '[{0}, {0}]')}\nseed: *a40", "line 1, column 1: more than 100,000 values"),
        (f"x-0: &a0 {{seed: 1}}\n{doubled(40, '{{<<: [{0}, {0}]}}')}", "more than 100,000 values"),
        ("x-a: &a [*a]", "more than 100,000 values"),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_as_editors_and_powershell_save_it(encoding, tmp_path):
    (tmp_path / "a.yaml").write_bytes("run:\r\n  name: café\r\n".encode(encoding))
    assert load_config(tmp_path / "a.yaml").run.name == "café"


@pytest.mark.parametrize(
    "tag", ["timestamp", "binary", "set", "omap", "pairs", "python/object/apply:os.system", "python/name:os.system"]
)
def test_tags_of_what_no_setting_has(tag):
    """A date that is none gave a traceback."""
    for value in ("x", "[x]", "{a: }"):
        with pytest.raises(UserError, match=r"line 1, column \d+: could not determine a constructor for the tag"):
            parse_yaml(f"seed: !!{tag} {value}", "a.yaml")


def test_files_that_are_no_configs(tmp_path):
    (tmp_path / "large.yaml").write_text("# " + "x" * 2**20)
    with pytest.raises(UserError, match=r"large\.yaml has more than 1 MB; a file of this kind is much smaller"):
        load_config(tmp_path / "large.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for name in ("zero.yaml", "CON.yaml", '"a\\0b.yaml"', '"\\ud800.yaml"'):
        (tmp_path / "a.yaml").write_text(f"extends: {name}\n")
        with pytest.raises(UserError, match="does not exist"):
            load_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text(f"extends: {'a' * 300}.yaml\n")
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["[" * 10_000, "a: " + "{b: " * 10_000, "- " * 10_000, "? " * 10_000])
def test_ten_thousand_levels(text):
    with pytest.raises(UserError, match=r"a\.yaml"):
        parse_yaml(text, "a.yaml")


@pytest.mark.parametrize("key", ["run.name", "dataset.title"])
@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "../a", "/a", "a/b", "..", ".a", "-a", "a|b", "a\nb", "a\n", '"', "{{ a }}"]
)
def test_names_of_runs_and_databases_lead_nowhere_and_are_no_markup(key, name):
    """They become folders, and are shown in reports, tables and cards."""
    section, _, field = key.partition(".")
    with pytest.raises(UserError, match=f"{section}.{field}: "):
        config_from_dict({section: {field: name}}, "a.yaml")
