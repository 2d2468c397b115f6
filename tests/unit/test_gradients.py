"""Clipping against a float64 reference, and everything that must never be lost or applied."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.training.policy import clip_policy
from signscope.errors import UpdateAuditError
from signscope.norms import (
    ConsumedGradientAudit,
    clip_and_measure_,
    clip_overflowed_,
    non_finite_tensors,
    numbers,
)
from signscope.records import Outcome


def parameters(*gradients: torch.Tensor) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros_like(gradient))
        parameter.grad = gradient.clone()
        made.append(parameter)
    return made


def norm64(tensors: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


@given(
    seed=st.integers(0, 2**31),
    exponent=st.floats(-6, 6),
    max_norm=st.floats(1e-3, 1e3),
)
def test_post_is_the_smaller_of_pre_and_max_norm(
    seed: int, exponent: float, max_norm: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = [torch.randn(shape, generator=generator) * 10**exponent for shape in ((7, 3), (11,))]
    params = parameters(*raw)
    measured = clip_and_measure_(params, max_norm)
    norms = numbers(float(measured.pre), float(measured.post), max_norm)
    reference = norm64(raw)
    assert norms.pre == pytest.approx(reference, rel=1e-5)
    expected_post = reference * min(1.0, max_norm / (reference + 1e-6))
    assert norms.post == pytest.approx(expected_post, rel=1e-5)
    assert norms.post <= max_norm * (1 + 1e-5)
    for parameter, before in zip(params, raw, strict=True):
        torch.testing.assert_close(parameter.grad, before * norms.clip_coef, rtol=1e-5, atol=0)


def test_a_norm_of_345_is_applied() -> None:
    params = parameters(torch.tensor([345.05]))
    measured = clip_and_measure_(params, 1.0)
    assert float(measured.pre) == pytest.approx(345.05)
    assert float(measured.post) == pytest.approx(1.0, rel=1e-5)
    assert clip_policy(1.0).decide(91.67, float(measured.pre)) is Outcome.APPLIED


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_gradients_are_left_alone_and_named(bad: float) -> None:
    layer = nn.Linear(2, 2)
    layer.weight.grad = torch.tensor([[1.0, bad], [2.0, 3.0]])
    layer.bias.grad = torch.tensor([4.0, 5.0])
    measured = clip_and_measure_(layer.parameters(), 1.0)
    assert not math.isfinite(float(measured.pre))
    assert layer.bias.grad.tolist() == [4.0, 5.0]
    assert non_finite_tensors(layer.named_parameters()) == ("weight",)
    assert clip_overflowed_(layer.parameters(), 1.0) is None
    assert clip_policy(1.0).decide(1.0, float(measured.pre)) is Outcome.SKIPPED_NON_FINITE_GRADIENT


@pytest.mark.parametrize("size", [1e20, 1e30, 3e38])
def test_finite_gradients_whose_norm_overflows_are_clipped_in_float64(size: float) -> None:
    params = parameters(torch.full((4,), size), torch.tensor([-size]))
    assert math.isinf(float(clip_and_measure_(params, 1.0).pre))
    norms = clip_overflowed_(params, 1.0)
    assert norms is not None
    assert norms.pre == pytest.approx(size * math.sqrt(5), rel=1e-6)
    assert norms.post == pytest.approx(1.0, rel=1e-5)
    assert norm64([p.grad for p in params if p.grad is not None]) == pytest.approx(1.0, rel=1e-5)
    assert clip_policy(1.0).decide(1.0, norms.pre) is Outcome.APPLIED


def test_an_overflowing_norm_without_a_bound_is_told_and_changes_nothing() -> None:
    params = parameters(torch.full((4,), 1e20))
    norms = clip_overflowed_(params, None)
    assert norms is not None
    assert norms.pre == norms.post == pytest.approx(2e20)
    assert norms.clip_coef == 1.0
    assert params[0].grad is not None
    assert params[0].grad.tolist() == torch.full((4,), 1e20).tolist()


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.nan])
def test_a_bound_that_would_zero_every_gradient_is_refused(max_norm: float) -> None:
    with pytest.raises(ValueError, match="max_norm"):
        clip_and_measure_(parameters(torch.ones(2)), max_norm)


def test_measuring_without_clipping_changes_nothing() -> None:
    params = parameters(torch.full((3,), 100.0))
    measured = clip_and_measure_(params, None)
    assert float(measured.pre) == float(measured.post) == pytest.approx(173.205, rel=1e-5)
    assert params[0].grad is not None
    assert params[0].grad.tolist() == [100.0] * 3


class TestAudit:
    def step(self, recorded: float) -> nn.Parameter:
        (parameter,) = parameters(torch.tensor([3.0, 4.0]))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        audit = ConsumedGradientAudit(optimizer)
        audit.recorded_post = recorded
        optimizer.step()
        return parameter

    def test_the_recorded_gradient_passes(self) -> None:
        assert self.step(5.0).tolist() == pytest.approx([-0.3, -0.4])

    def test_a_clip_after_the_step_is_caught_before_the_weights_change(self) -> None:
        # The recorded norm says clipped to 1, the gradient that arrives is not.
        (parameter,) = parameters(torch.tensor([3.0, 4.0]))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        ConsumedGradientAudit(optimizer).recorded_post = 1.0
        with pytest.raises(UpdateAuditError, match="norm 5"):
            optimizer.step()
        assert parameter.tolist() == [0.0, 0.0]

    def test_a_clip_before_unscaling_is_caught(self) -> None:
        (parameter,) = parameters(torch.tensor([3.0, 4.0]) * 1024)
        post = float(clip_and_measure_([parameter], 1.0).post)
        assert parameter.grad is not None
        parameter.grad /= 1024
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        ConsumedGradientAudit(optimizer).recorded_post = post
        with pytest.raises(UpdateAuditError):
            optimizer.step()


def test_the_first_update_and_each_fiftieth_after_it_are_looked_at() -> None:
    (parameter,) = parameters(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([parameter], 0.0)
    audit = ConsumedGradientAudit(optimizer)
    looked_at = []
    for update in range(101):
        audit.recorded_post = math.nan  # a look finds it wrong
        try:
            optimizer.step()
        except UpdateAuditError:
            looked_at.append(update)
    assert looked_at == [0, 50, 100]
