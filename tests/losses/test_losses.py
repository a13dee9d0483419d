"""Loss terms against values worked out by hand, and gradients where roots are zero."""

import math

import pytest
import torch

from datasets.scale import RatingScale
from losses import JointLoss
from losses.terms import emd, hypothesis_sos, mos_error, sos_error
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


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sos_target": "labels"}, "allowed: hypothesis, label"), ({"sos_a": 0}, "above 0"), ({"mos": -1}, "negative")],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        JointLoss(ACR, **options)
