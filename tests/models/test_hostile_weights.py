"""Checkpoints of strangers: names, shapes, values and structures that are none of a network."""

from pathlib import Path

import pytest
import torch

from models import build_model
from models.weights import load_network, load_pretrained
from utils.checkpoint import save_checkpoint
from utils.errors import UserError
from utils.settings import Config, ModelSettings

NANO = ModelSettings(backbone="cvt_nano")
PLAIN = Config(model=NANO).model_dump(mode="json")


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_model(NANO).state_dict()


def own(path: Path, **changes) -> Path:
    save_checkpoint(path, {"config": PLAIN, "scale": PLAIN["scale"], "model": weights(), **changes})
    return path


def load_as_pretrained(path: Path) -> None:
    load_pretrained(build_model(NANO), NANO.model_copy(update={"pretrained": str(path)}))


@pytest.mark.parametrize("load", [load_network, load_as_pretrained])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(value, load, tmp_path):
    changed = weights()
    name, tensor = next((name, each) for name, each in changed.items() if each.dim() > 1)
    tensor.view(-1)[-1] = value
    path = own(tmp_path / "a.pt", model=changed)
    with pytest.raises(UserError, match=rf"a\.pt contains values that are infinite .*in 1 tensors such as {name}"):
        load(path)


@pytest.mark.parametrize("load", [load_network, load_as_pretrained])
@pytest.mark.parametrize(
    "changes",
    [
        *({"model": None}, {"model": [1]}, {"model": {1: torch.ones(1)}}, {"model": {"a": 1}}, {"average": 5}),
        {"average": {"a": [torch.ones(1)]}},
    ],
)
def test_a_checkpoint_without_weights(changes, load, tmp_path):
    with pytest.raises(UserError, match=r"a\.pt contains no weights, although it says"):
        load(own(tmp_path / "a.pt", **changes))


@pytest.mark.parametrize("split", [[1], {"train_mos": 3}, {"train_mos": ["high"]}, {"train_mos": [float("nan")]}])
def test_labels_that_are_no_numbers(split, tmp_path):
    content = {"format": "richiqa", "version": 1, "config": PLAIN, "scale": PLAIN["scale"], "model": weights()}
    torch.save({**content, "split": split}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: split.*restore the file"):
        load_network(tmp_path / "a.pt")


@pytest.mark.parametrize("load", [load_network, load_as_pretrained])
def test_shapes_that_are_huge_but_stored_in_no_memory(load, tmp_path):
    changed = weights()
    name = next(iter(changed))
    changed[name] = torch.zeros(1).expand(2**20, 2**20)
    with pytest.raises(UserError, match=rf"{name} is \(1048576, 1048576\) there"):
        load(own(tmp_path / "a.pt", model=changed))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"module": torch.ones(1)}, "weights of no known kind"),
        ({"a.module": torch.ones(1), "a": torch.ones(1)}, "weights of no known kind"),
        ({1: torch.ones(1)}, "no state dict"),
        ({"stages.x.y": torch.ones(1), "stages": torch.ones(1)}, "does not fit this network"),
        ({f"stages.{'9' * 5000}.y": torch.ones(1)}, "does not fit this network"),
        ({"stage0.x": torch.ones(1)}, "are not of a CvT"),
        ({"layers.0": torch.ones(1)}, "does not fit this network"),
        ({"x" * 10**6: torch.ones(1)}, "weights of no known kind"),
        ({"x" * 10**6: 1}, "no state dict"),
    ],
)
def test_names_of_no_network(content, message, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message) as caught:
        load_as_pretrained(tmp_path / "a.pth")
    assert len(str(caught.value)) < 2000


def test_dictionaries_in_dictionaries(tmp_path):
    content = {"w": torch.ones(1)}
    for _ in range(200):
        content = {"model": content}
    buffer = tmp_path / "a.pth"
    torch.save(content, buffer)
    with pytest.raises(UserError, match="weights of no known kind"):
        load_as_pretrained(buffer)
