"""Clipping, with the gradient norm measured before and after it.

Shape and units: a norm is the L2 norm over the gradients of all parameters taken as one vector,
``sqrt(sum(g ** 2))``; clipping multiplies every gradient with ``min(1, max_norm / (norm + 1e-6))``
(Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013, and
the constant of ``torch.nn.utils.clip_grads_with_norm_``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from signscope.errors import UpdateAuditError


@dataclass(frozen=True, slots=True)
class MeasuredNorms:
    """Norms of one backward pass, still on the device so that reading them costs one wait, not two."""

    pre: Tensor  # () float32
    post: Tensor  # () float32


@dataclass(frozen=True, slots=True)
class GradientNorms:
    """Norms of one backward pass as numbers."""

    pre: float
    post: float
    clip_coef: float

    @property
    def finite(self) -> bool:
        """Whether the gradient may be applied. The norm is the test: one bad element spoils it."""
        return math.isfinite(self.pre)


def clip_and_measure_(parameters: Iterable[nn.Parameter], max_norm: float | None) -> MeasuredNorms:
    """Clip the gradients in place to ``max_norm`` and measure their norm before and after.

    Gradients whose norm is not finite are left as they are, so that their bad tensors can be named.
    ``None`` measures without clipping. Nothing is read from the device.

    Raises:
        ValueError: ``max_norm`` is not positive; 0 would silently turn every gradient to zero.
    """
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, found {max_norm}")
    with_grad = [parameter for parameter in parameters if parameter.grad is not None]
    pre = _total_norm(with_grad)
    if max_norm is None:
        return MeasuredNorms(pre, pre)
    # Dividing by a non-finite norm would make every gradient NaN; dividing by 0 clamps to a factor of 1.
    clip_grads_with_norm_(with_grad, max_norm, torch.where(pre.isfinite(), pre, 0.0))
    return MeasuredNorms(pre, _total_norm(with_grad))


def numbers(pre: float, post: float, max_norm: float | None) -> GradientNorms:
    """Give read norms together with the factor that clipping multiplied the gradients with."""
    if max_norm is None or not math.isfinite(pre):
        return GradientNorms(pre, post, 1.0)
    return GradientNorms(pre, post, min(1.0, max_norm / (pre + 1e-6)))


def clip_overflowed_(
    parameters: Iterable[nn.Parameter], max_norm: float | None
) -> GradientNorms | None:
    """Clip gradients that are finite although their float32 norm overflowed to infinity.

    Squares of float32 elements above 1.8e19 do not fit in float32, so the norm is taken again in
    float64, where they always fit. Gives None, and changes nothing, when an element is not finite.
    Reads the device; needed only for a batch whose norm is not finite.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    pre = _total_norm_in_float64(grads)
    if not math.isfinite(pre):
        return None
    if max_norm is None:
        return GradientNorms(pre, pre, 1.0)
    coef = min(1.0, max_norm / (pre + 1e-6))
    for grad in grads:
        # The factor may be too small for float32 while its product with the gradient is not.
        grad.copy_((grad.detach().cpu().double() * coef).to(grad))
    return GradientNorms(pre, _total_norm_in_float64(grads), coef)


def non_finite_tensors(named: Iterable[tuple[str, nn.Parameter]]) -> tuple[str, ...]:
    """Give the names of the parameters whose gradient holds a NaN or an infinity, in model order."""
    return tuple(
        name
        for name, parameter in named
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
    )


def _total_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    return get_total_norm([p.grad for p in parameters if p.grad is not None])


def _total_norm_in_float64(grads: Iterable[Tensor]) -> float:
    # mps has no float64, so the sums are made on the cpu.
    return math.sqrt(sum(float(grad.detach().cpu().double().square().sum()) for grad in grads))


class ConsumedGradientAudit:
    """Compares, inside the optimizer's step, the gradient that is consumed with the recorded norm.

    A clip made after the step, or before gradients are unscaled, would leave every recorded number
    looking right; only a look at the moment of consumption can tell. The first update and each
    ``every``-th after it are looked at, because a look costs one more norm.

    Raises (from ``optimizer.step``):
        UpdateAuditError: The consumed gradient is not the recorded one; the weights are unchanged.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, every: int = 50) -> None:
        self.recorded_post = math.nan
        self._every = every
        self._updates = 0
        optimizer.register_step_pre_hook(self._look)

    def _look(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        due = self._updates % self._every == 0
        self._updates += 1
        if not due:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        consumed = float(_total_norm([p for p in parameters if p.grad is not None]))
        if not math.isfinite(
            consumed
        ):  # as it was recorded: maybe only its float32 norm overflowed
            consumed = _total_norm_in_float64(p.grad for p in parameters if p.grad is not None)
        if not math.isclose(consumed, self.recorded_post, rel_tol=1e-3, abs_tol=1e-6):
            raise UpdateAuditError(
                f"The optimizer was about to consume a gradient of norm {consumed:.6g}, "
                f"but {self.recorded_post:.6g} was recorded",
                subject="the update ledger",
                hint="Something changed the gradients between measuring and the step; this is a fault of the program. The weights were not changed.",
            )
