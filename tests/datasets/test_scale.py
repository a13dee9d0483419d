"""The rating scale."""

import numpy as np
import pytest
import torch

from datasets.scale import RatingScale
from utils.errors import UserError

ACR = RatingScale(low=1, high=5, bin_centers=(1, 2, 3, 4, 5))
DOS = np.array([[0.1, 0.2, 0.4, 0.2, 0.1], [0.5, 0, 0, 0, 0.5], [0, 0, 0, 1, 0]])


def test_mean_and_std_by_hand():
    np.testing.assert_allclose(ACR.mean(DOS), [3, 3, 4])
    np.testing.assert_allclose(ACR.std(DOS), [1.2**0.5, 2, 0])


def test_tensors_and_arrays_agree():
    scale = RatingScale(0, 100, (10, 30, 50, 70, 90))
    np.testing.assert_allclose(scale.mean(torch.from_numpy(DOS)).numpy(), scale.mean(DOS))
    np.testing.assert_allclose(scale.std(torch.from_numpy(DOS)).numpy(), scale.std(DOS))


def test_std_has_a_finite_gradient_at_zero():
    dos = torch.eye(5, requires_grad=True)
    ACR.std(dos).sum().backward()
    assert dos.grad.abs().max() == 0


def test_centres_made_in_inference_mode_serve_in_training():
    scale = RatingScale(0, 7, (1, 3, 6))
    with torch.inference_mode():
        scale.mean(torch.ones(1, 3))
    dos = torch.ones(1, 3, requires_grad=True)
    scale.mean(dos).sum().backward()
    assert dos.grad.tolist() == [[1, 3, 6]]


def test_bins_meet_half_way():
    assert ACR.bin_index(np.array([0.2, 1.5, 1.51, 3.0, 9.0])).tolist() == [0, 0, 1, 2, 4]


@pytest.mark.parametrize(
    "values",
    [
        (5, 1, (1, 2, 3)),
        (1, 5, (3,)),
        (1, 5, ()),
        (1, 5, (1, 3, 2)),
        (1, 5, (0, 3, 5)),
        (1, 5, (1, 3, float("nan"))),
    ],
)
def test_what_is_no_scale_is_refused(values):
    with pytest.raises(UserError, match="is not a rating scale"):
        RatingScale(*values)
