"""Loss terms against values worked out by hand, and gradients where roots are zero."""

import math

import pytest
import torch

from datasets.scale import RatingScale
from losses import JointLoss
from losses.terms import RANK_MARGIN, emd, hypothesis_sos, mos_error, rank_error, sos_error
from utils.errors import UserError

ACR = RatingScale(low=1, high=5, bin_centers=(1, 2, 3, 4, 5))


def one_hot(k):
    return torch.eye(5)[k : k + 1]


def labels(dos):
    return {"dos": dos, "mos": ACR.mean(dos), "sos": ACR.std(dos)}


def test_emd_of_opposite_ends_is_the_largest():
    assert emd(one_hot(0), one_hot(4)).item() == pytest.approx(math.sqrt(4 / 5))


def test_emd_of_neighbours():
    assert emd(one_hot(1), one_hot(2)).item() == pytest.approx(math.sqrt(1 / 5))


def test_emd_is_the_mean_over_images():
    pred, target = torch.cat([one_hot(0), one_hot(1)]), torch.cat([one_hot(4), one_hot(1)])
    assert emd(pred, target).item() == pytest.approx(math.sqrt(4 / 5) / 2)


def test_emd_of_equal_distributions_is_zero_with_zero_gradient():
    dos = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]], requires_grad=True)
    value = emd(dos, dos.detach().clone())
    value.backward()
    assert value.item() == 0
    assert dos.grad.abs().max() == 0


def test_emd_gradient_elsewhere_is_the_plain_ones():
    torch.manual_seed(0)
    pred, target = torch.rand(6, 5).softmax(1), torch.rand(6, 5).softmax(1)
    guarded, plain = pred.clone().requires_grad_(), pred.clone().requires_grad_()
    emd(guarded, target).backward()
    (plain.cumsum(1) - target.cumsum(1)).square().mean(1).sqrt().mean().backward()
    assert torch.equal(guarded.grad, plain.grad)


def test_what_is_not_a_number_stays_so():
    nan = torch.full((2, 5), math.nan)
    assert all(term.isnan() for term in JointLoss(ACR)(nan, labels(torch.full((2, 5), 0.2))).values())


def test_mos_and_sos_errors():
    assert mos_error(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0])).item() == 1.5
    assert sos_error(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0])).item() == 2.5


def test_hypothesis_peaks_in_the_middle_and_ends_at_zero():
    mos = torch.tensor([1.0, 3.0, 5.0], requires_grad=True)
    sos = hypothesis_sos(mos, 1, 5, 0.09)
    assert sos.tolist() == pytest.approx([0, 0.6, 0])
    sos.sum().backward()
    assert mos.grad.isfinite().all()
    assert hypothesis_sos(torch.tensor([0.9999999, 5.0000005]), 1, 5, 0.09).tolist() == [0, 0]


@pytest.mark.parametrize("sos_target", ["hypothesis", "label"])
@pytest.mark.parametrize("k", range(5))
def test_gradient_is_finite_at_one_hot_predictions(sos_target, k):
    dos = one_hot(k).requires_grad_()
    for target in (one_hot(k), one_hot(0), torch.full((1, 5), 0.2)):
        total = JointLoss(ACR, sos_target=sos_target)(dos, labels(target))["total"]
        (gradient,) = torch.autograd.grad(total, dos)
        assert gradient.isfinite().all()


def test_release_weights():
    torch.manual_seed(0)
    pred, target = torch.rand(4, 5).softmax(1), labels(torch.rand(4, 5).softmax(1))
    terms = JointLoss(ACR)(pred, target)
    expected = 100 * terms["dos"] + 5 * terms["mos"] + 0.5 * terms["sos"]
    assert terms["total"].item() == pytest.approx(expected.item())
    mos, sos = ACR.mean(pred), ACR.std(pred)
    by_hand = ((sos - (0.09 * (mos - 1) * (5 - mos)).sqrt()) ** 2).mean()
    assert terms["sos"].item() == pytest.approx(by_hand.item())


def test_sos_label_is_read_only_where_it_is_asked_for():
    pred, target = torch.full((2, 5), 0.2), labels(torch.cat([one_hot(1), one_hot(3)]))
    other = {**target, "sos": target["sos"] + 1}
    assert JointLoss(ACR)(pred, target)["sos"] == JointLoss(ACR)(pred, other)["sos"]
    by_label = JointLoss(ACR, sos_target="label")
    assert by_label(pred, target)["sos"].item() == pytest.approx(2.0)  # the variance of the flat distribution
    assert by_label(pred, other)["sos"] != by_label(pred, target)["sos"]


@pytest.mark.parametrize("left", ["dos", "mos", "sos"])
def test_a_weight_of_zero_takes_its_term_out(left):
    torch.manual_seed(0)
    weights = {name: 2.0 if name == left else 0.0 for name in ("dos", "mos", "sos")}
    terms = JointLoss(ACR, **weights)(torch.rand(4, 5).softmax(1), labels(torch.rand(4, 5).softmax(1)))
    assert terms["total"] == 2 * terms[left]


def test_rank_error_by_hand():
    """Two steps, of 0.2 and 0.6: one that costs too little, one that costs enough."""
    pred = torch.tensor([0.8], requires_grad=True)
    damaged = torch.tensor([[0.79, 0.5]], requires_grad=True)
    strengths = torch.tensor([[0.2, 0.8]])
    value = rank_error(pred, damaged, strengths, torch.tensor([0.5]))
    assert value.item() == pytest.approx(0.5 * (RANK_MARGIN * 0.2 * 0.8 - 0.01))
    value.backward()
    assert pred.grad is None  # labels say what is right for intact images
    torch.testing.assert_close(damaged.grad, torch.tensor([[0.5, 0.0]]))
    worse = torch.tensor([[0.5, 0.1]])
    assert rank_error(pred, worse, strengths) == 0


@pytest.mark.parametrize("best_last", [True, False])
def test_damage_lowers_the_quality_whichever_way_the_scale_points(best_last):
    scale = RatingScale(low=0, high=1, bin_centers=(0.1, 0.3, 0.5, 0.7, 0.9), higher_is_better=best_last)
    good, bad = (one_hot(4), one_hot(0)) if best_last else (one_hot(0), one_hot(4))
    loss = JointLoss(scale, rank=2.0, best_last=best_last)
    target = {"dos": good, "mos": scale.mean(good), "sos": scale.std(good), "strengths": torch.tensor([[0.1, 0.9]])}
    worse = loss(torch.cat([good, (good + bad) / 2, bad]), target)
    assert worse["rank"] == 0
    equal = loss(torch.cat([good, good, good]), target)
    assert equal["rank"].item() == pytest.approx(RANK_MARGIN * 0.9)
    assert (equal["total"] - worse["total"]).item() == pytest.approx(2 * equal["rank"].item())
    mediocre = {**target, "dos": (good + bad) / 2}  # its label says that it is half as good: half the weight
    assert loss(torch.cat([good, good, good]), mediocre)["rank"].item() == pytest.approx(RANK_MARGIN * 0.9 / 2)
    without = JointLoss(scale)(good, {key: target[key] for key in ("dos", "mos", "sos")})
    assert without.keys() == {"total", "dos", "mos", "sos"}
    for name, value in without.items():
        assert worse[name] == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sos_target": "labels"}, "JointLoss: sos_target: .*'hypothesis' or 'label', got 'labels'"),
        ({"units": "percent"}, "JointLoss: units: .*'native' or 'acr', got 'percent'"),
        ({"sos_a": 0}, "JointLoss: sos_a: .*greater than 0"),
        ({"mos": -1}, "JointLoss: mos: .*greater than or equal to 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        JointLoss(ACR, **options)


KONIQ = RatingScale(1, 5, (1, 2, 3, 4, 5))
CSIQ = RatingScale(0, 1, (0.1, 0.3, 0.5, 0.7, 0.9), higher_is_better=False)


def batch(scale, count, seed):
    generator = torch.Generator().manual_seed(seed)
    dos = torch.rand(count, 5, generator=generator, dtype=torch.float64).softmax(1)
    target = torch.rand(count, 5, generator=generator, dtype=torch.float64).softmax(1)
    return dos, {"dos": target, "mos": scale.mean(target), "sos": scale.std(target)}


@pytest.mark.parametrize("target", ["hypothesis", "label"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 3.0)])
def test_several_databases_are_the_weighted_mean_of_their_own_losses(weights, target):
    """A mixed batch against each part alone, CSIQ's bins from best to worst as its own scale has them."""
    (dos_a, target_a), (dos_b, target_b) = batch(KONIQ, 3, 0), batch(CSIQ, 5, 1)
    alone_a = JointLoss(KONIQ, sos_a=0.09, sos_target=target)(dos_a, target_a)
    alone_b = JointLoss(CSIQ, sos_a=0.07, sos_target=target)(dos_b, target_b)
    mixed = {
        "dos": torch.cat([target_a["dos"], target_b["dos"].flip(1)]),  # turned: from worst to best
        **{key: torch.cat([target_a[key], target_b[key]]) for key in ("mos", "sos")},
        "database": torch.tensor([0] * 3 + [1] * 5),
    }
    loss = JointLoss([KONIQ, CSIQ], sos_a=[0.09, 0.07], sos_target=target, database_weights=weights)
    terms = loss(torch.cat([dos_a, dos_b.flip(1)]), mixed)
    for name in ("total", "dos", "mos", "sos"):
        expected = (3 * weights[0] * alone_a[name] + 5 * weights[1] * alone_b[name]) / 8
        torch.testing.assert_close(terms[name], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", ["hypothesis", "label"])
def test_one_database_is_its_scale_alone(target):
    dos, labels_ = batch(KONIQ, 4, 2)
    alone = JointLoss(KONIQ, sos_a=0.07, sos_target=target)(dos, labels_)
    listed = JointLoss([KONIQ], sos_a=[0.07], sos_target=target, database_weights=[1.0])
    terms = listed(dos, {**labels_, "database": torch.zeros(4, dtype=torch.int64)})
    twice = JointLoss([KONIQ, KONIQ], sos_a=0.07, sos_target=target)
    gathered = twice(dos, {**labels_, "database": torch.tensor([0, 1, 1, 0])})
    assert all(torch.equal(terms[name], alone[name]) for name in alone)
    assert all(torch.equal(gathered[name], alone[name]) for name in alone)


def test_units_of_acr_make_scales_alike():
    """The same opinions on 1..5 and on 0..100: other numbers natively, the same with units: acr."""
    percent = RatingScale(0, 100, (0, 25, 50, 75, 100))
    (dos, on_acr), (_, on_percent) = batch(KONIQ, 4, 0), batch(percent, 4, 0)
    native = JointLoss(KONIQ)(dos, on_acr)
    torch.testing.assert_close(JointLoss(percent, units="acr")(dos, on_percent)["total"], native["total"])
    torch.testing.assert_close(JointLoss(KONIQ, units="acr")(dos, on_acr)["total"], native["total"])
    raw = JointLoss(percent)(dos, on_percent)
    torch.testing.assert_close(raw["mos"], 25 * native["mos"])
    torch.testing.assert_close(raw["sos"], 625 * native["sos"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sos_a": [0.1]}, "need one value for each of the 2 databases"),
        ({"database_weights": [1.0]}, "need one value for each of the 2 databases"),
    ],
)
def test_mistakes_with_several_databases(arguments, message):
    with pytest.raises(UserError, match=message):
        JointLoss([KONIQ, CSIQ], **arguments)
    with pytest.raises(UserError, match=r"the same number of bins, got \[5, 2\]"):
        JointLoss([KONIQ, RatingScale(0, 1, (0, 1))])
