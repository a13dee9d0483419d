"""Decomposition of the algorithmic logits, and the map of contributions to MOS."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from models import build_model
from models.attribution import Contributions, contributions, mos_map
from utils.settings import ModelSettings

CENTERS = (1.0, 2.0, 3.0, 4.0, 5.0)


def network(**settings):
    torch.manual_seed(0)
    model = build_model(ModelSettings(**settings)).eval()
    for layer in model.algorithmic:  # larger than at the start of a training, so that the DOS is not nearly flat
        torch.nn.init.normal_(layer.weight, std=0.2)
        torch.nn.init.normal_(layer.bias, std=0.2)
    return model


def total(parts: Contributions) -> torch.Tensor:
    return sum(grid.double().sum((2, 3)) for grid in parts.stage_logits) + parts.constant.double()


def uniform(*stage_logits: torch.Tensor) -> Contributions:
    """Return contributions to one image with a flat DOS over K bins."""
    bins = stage_logits[0].shape[1]
    flat = torch.full((1, bins), 1 / bins)
    return Contributions(flat, flat.log(), torch.zeros(bins), list(stage_logits), 1.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "cvt_nano"},
        {"backbone": "cvt_nano", "stages": (1, 3)},
        {"backbone": "cvt_nano", "stages": (2,), "memory": "none"},
        {"backbone": "cvt_21"},
        {"backbone": "timm:resnet18"},
        {"backbone": "timm:swin_tiny_patch4_window7_224"},  # channels last
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
@torch.no_grad()
def test_parts_and_constant_add_up_to_the_logits(settings):
    model = network(**settings)
    images = torch.randn(2, 3, 64, 96)
    parts = contributions(model, images)
    expected = model.algorithmic(F.normalize(model.features(images), dim=1)).double()
    assert (total(parts) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(parts.logits_alg.double(), expected)
    assert torch.equal(parts.dos, model(images))
    assert [grid.shape[1] for grid in parts.stage_logits] == [5] * len(model.stages)
    sizes = [grid.shape[2:] for grid in model.backbone(images)]
    assert [grid.shape[2:] for grid in parts.stage_logits] == [sizes[stage - 1] for stage in model.stages]


@torch.no_grad()
def test_map_is_the_first_order_effect_of_the_parts():
    model = network(backbone="cvt_nano", memory_weight=0.3, temperature=2).double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.double)
    parts = contributions(model, images)
    assert parts.direct_share == pytest.approx(0.7 / 2)
    region = [grid.clone() for grid in parts.stage_logits]
    for grid in region:  # the upper left of every stage
        grid[:, :, grid.shape[2] // 2 :] = 0
        grid[:, :, :, grid.shape[3] // 3 :] = 0
    memory = model.memory(model.features(images))

    def mos(growth: float) -> torch.Tensor:
        grown = [grid + growth * some for grid, some in zip(parts.stage_logits, region, strict=True)]
        logits = (0.7 * total(replace(parts, stage_logits=grown)) + 0.3 * memory) / 2
        return (logits.softmax(1) * torch.tensor(CENTERS)).sum(1)

    torch.testing.assert_close(mos(0.0), (parts.dos * torch.tensor(CENTERS)).sum(1))
    step = 1e-4
    measured = (mos(step) - mos(-step)) / (2 * step)
    predicted = mos_map(replace(parts, stage_logits=region), CENTERS, (64, 96)).sum((1, 2))
    assert predicted.abs().min() > 1e-3
    torch.testing.assert_close(predicted, measured, rtol=1e-5, atol=0)


@torch.no_grad()
def test_map_and_constant_are_the_whole_first_order_share():
    model = network(backbone="timm:resnet18", memory_weight=0.2).double()
    images = torch.randn(2, 3, 70, 90, dtype=torch.double)  # maps that do not divide the image
    parts = contributions(model, images)
    scores = torch.tensor(CENTERS, dtype=torch.double)
    slope = parts.dos * (scores - (parts.dos * scores).sum(1, keepdim=True))
    whole = 0.8 * (slope * parts.logits_alg).sum(1)
    of_constant = 0.8 * (slope * parts.constant).sum(1)
    drawn = mos_map(parts, CENTERS, (70, 90))
    assert drawn.shape == (2, 70, 90)
    torch.testing.assert_close(drawn.sum((1, 2)) + of_constant, whole)


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (5, 7), (32, 48), (1, 1)])
def test_a_position_keeps_its_sum_and_its_place(rows, columns):
    row, column = rows // 4, columns - 1
    grid = torch.zeros(1, 5, rows, columns)
    grid[0, 4, row, column] = 3.0  # of the bin at 5, two above the mean of a flat DOS
    drawn = mos_map(uniform(grid), CENTERS, (32, 48))[0]
    assert drawn.sum().item() == pytest.approx(3.0 * 2 / 5, rel=1e-5)
    y, x = (drawn == drawn.max()).nonzero().double().mean(0).tolist()  # middle of what is highest
    assert int(y * rows / 32) == row
    assert int(x * columns / 48) == column


def test_a_map_of_equal_parts_is_even_and_stages_add_up():
    parts = uniform(torch.ones(1, 5, 4, 6), torch.ones(1, 5, 8, 12))
    parts.stage_logits[0][:, :4] = 0  # only the bin at 5 is raised: 2/5 points a unit
    parts.stage_logits[1][:, 1:] = 0  # only the bin at 1 is: -2/5
    drawn = mos_map(parts, CENTERS, (32, 48))[0]
    expected = (2 / 5) * (4 * 6 - 8 * 12) / (32 * 48)
    torch.testing.assert_close(drawn, torch.full((32, 48), expected))


def test_parts_that_raise_all_bins_alike_do_nothing():
    drawn = mos_map(uniform(torch.randn(1, 1, 4, 6).expand(1, 5, 4, 6)), CENTERS, (32, 48))
    assert drawn.abs().max() < 1e-8


def test_a_size_below_that_of_a_map_is_refused():
    with pytest.raises(ValueError, match="map of 6 positions along a side cannot be drawn on 5 pixels"):
        mos_map(uniform(torch.zeros(1, 5, 4, 6)), CENTERS, (8, 5))
