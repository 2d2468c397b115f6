"""From the tensors that a gradient left behind to the numbers that a person reads.

A norm is the L2 norm over all gradients of an optimizer taken as one vector; it is the root of the sum of the
squares of the norms of its parameters' gradients. Clipping by norm multiplies every gradient with
``min(1, max_norm / (total + 1e-6))`` (Pascanu, Mikolov and Bengio, 2013, and
``torch.nn.utils.clip_grads_with_norm_``), so the norm before it is the norm after it divided by that factor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from signscope.records import Outcome
from signscope.watching.updates import Attempt, Clip

CLIPPED_BEFORE_UNSCALING = "clipped before the gradients were unscaled"
NOT_CLIPPED = "not clipped, although gradients of this optimizer were clipped before"
PRE_NOT_SEEN = "norm before clipping not seen"
NORM_NOT_SEEN = "norm not seen"
LOSS_NOT_SEEN = "loss not seen"

_EPSILON = 1e-6  # of torch.nn.utils.clip_grads_with_norm_

Number = float | Tensor
"""A number, or a tensor that holds it, perhaps on a device."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One attempt to update the weights, with its numbers. None is "not seen"; NaN is a number that was NaN.

    Args:
        optimizer: Which one, counted from 0 in the order they were made.
        outcome: What became of the gradient.
        loss: Mean of what the accumulated backward passes began from, without a GradScaler's scale.
        backwards: How many of them were seen.
        closures: How often the step called its closure; 0 without one.
        pre: L2 norm of the gradient before clipping, without a GradScaler's scale.
        post: L2 norm of what the optimizer consumed, or would have.
        coef: How much shorter clipping made the gradient; 1.0 where nothing clipped it.
        layers_pre: L2 norms before clipping, by the place of the parameter among the optimizer's.
        lr: Learning rate of each parameter group.
        epoch: From 1, as far as passes over a DataLoader tell it.
        data_s: Seconds spent waiting for a DataLoader since the attempt before.
        step_s: The other seconds since then.
        wall_time: When it ended, in seconds since the Unix epoch.
        samples: What the script said the update was made of.
        remarks: What a person should know of this attempt, as short texts.
    """

    optimizer: int
    outcome: Outcome
    loss: float | None
    backwards: int
    closures: int
    pre: float | None
    post: float | None
    coef: float | None
    layers_pre: Mapping[int, float]
    lr: tuple[float, ...]
    epoch: int
    data_s: float
    step_s: float
    wall_time: float
    samples: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gradient:
    """Norms of an optimizer's gradients at one moment, still on their device.

    Args:
        places: Which of the optimizer's parameters had a gradient.
        norms: (len(places),) float32, one L2 norm each.
        scale: What the gradients were still multiplied with; None is 1.
        found_inf: () above 0 if a fused optimizer's kernel will skip the step.
    """

    places: tuple[int, ...]
    norms: Tensor
    scale: Tensor | None = None
    found_inf: Tensor | None = None


def measured(
    parameters: Sequence[Tensor], scale: Tensor | None = None, found_inf: Tensor | None = None
) -> Gradient | None:
    """Measure the gradients of ``parameters``; None where none has one, or a device's own kind hides them.

    Changes no gradient and waits for no device.
    """
    places: list[int] = []
    grads: list[Tensor] = []
    for place, parameter in enumerate(parameters):
        grad = parameter.grad
        if grad is None:
            continue
        if type(grad) is not Tensor:  # DTensor: each rank has a part
            return None
        if grad.is_sparse:
            grad = grad.coalesce().values()
        # Half floats would give the norm three digits, and overflow.
        grads.append(grad if grad.dtype == torch.float32 else grad.float())
        places.append(place)
    if not grads:
        return None
    with torch.no_grad():
        norms = torch._foreach_norm(grads, 2)
        device = norms[0].device
        stacked = torch.stack(
            [norm if norm.device == device else norm.to(device) for norm in norms]
        )
    return Gradient(tuple(places), stacked, scale, found_inf)


def number_of(value: Tensor) -> Number:
    """Read a tensor () that is on the cpu; copy one that is not, because its owner may change it."""
    return float(value) if value.device.type == "cpu" else value.detach().clone()


@dataclass(frozen=True, slots=True)
class Account:
    """Everything that one attempt's numbers are made of, some of it perhaps still on a device.

    ``before`` is the gradient as it was before ``clip_grad_value_``, whose factor differs by element.
    """

    attempt: Attempt[Number]
    gradient: Gradient | None
    before: Gradient | None
    optimizer: int
    lr: tuple[Number, ...]
    epoch: int
    data_s: float
    step_s: float
    wall_time: float
    sees_every_clip: bool
    samples: tuple[str, ...] = ()

    def numbers(self) -> list[Number]:
        """Every number that is needed (a tensor holds one or more), in the order that :meth:`seen` takes them."""
        found: list[Number] = [loss for loss in self.attempt.losses if loss is not None]
        found += [clip.total for clip in self.attempt.clips if clip.total is not None]
        found += self.lr
        for gradient in (self.gradient, self.before):
            if gradient is not None:
                found += [n for n in (gradient.scale, gradient.found_inf) if n is not None]
                found.append(gradient.norms)
        return found

    def seen(self, values: Sequence[float]) -> Seen:
        """Make the numbers, read in the order of :meth:`numbers`, into what a person reads."""
        rest = iter(values)
        losses = [next(rest) for loss in self.attempt.losses if loss is not None]
        totals = [None if clip.total is None else next(rest) for clip in self.attempt.clips]
        lr = tuple(next(rest) for _ in self.lr)
        norms, skipped, scaled = _read(self.gradient, rest)
        norms_before, _, _ = _read(self.before, rest)
        outcome = self.attempt.outcome
        if outcome is Outcome.APPLIED and skipped:
            outcome = Outcome.SKIPPED_BY_SCALER
        post = _length(norms)
        coef = self._coef(totals, post, _length(norms_before))
        pre = self._pre(totals, post, coef, _length(norms_before), scaled)
        return Seen(
            optimizer=self.optimizer,
            outcome=outcome,
            loss=sum(losses) / len(losses) if losses else None,
            backwards=len(self.attempt.losses),
            closures=self.attempt.closures,
            pre=pre,
            post=post,
            coef=coef,
            layers_pre=_layers(norms_before or norms, 1.0 if norms_before else coef),
            lr=lr,
            epoch=self.epoch,
            data_s=self.data_s,
            step_s=self.step_s,
            wall_time=self.wall_time,
            samples=self.samples,
            remarks=self._remarks(losses, pre, post),
        )

    def _coef(
        self, totals: Sequence[float | None], post: float | None, before: float | None
    ) -> float | None:
        if before is not None:
            return None if post is None else (post / before if before > 0 else 1.0)
        if not self.attempt.clips:
            return 1.0 if self.sees_every_clip else None
        coef = 1.0
        for clip, total in zip(self.attempt.clips, totals, strict=True):
            if not clip.whole or total is None or self.attempt.added_to:
                return None
            coef *= factor(clip.limit, total)
        return coef

    def _pre(
        self,
        totals: Sequence[float | None],
        post: float | None,
        coef: float | None,
        before: float | None,
        scale: float,
    ) -> float | None:
        if before is not None or coef is None:
            return before
        clips = self.attempt.clips
        if len(clips) == 1 and clips[0].exact and totals[0] is not None:
            return totals[0] / scale if _is_scaled(clips[0], self.gradient) else totals[0]
        if post is None:
            return None
        return post / coef if coef > 0 else None

    def _remarks(
        self, losses: Sequence[float], pre: float | None, post: float | None
    ) -> tuple[str, ...]:
        attempt = self.attempt
        told = (
            (attempt.closures > 1, f"the closure was called {attempt.closures} times"),
            (any(clip.before_unscaling for clip in attempt.clips), CLIPPED_BEFORE_UNSCALING),
            (attempt.unclipped and attempt.outcome is Outcome.APPLIED, NOT_CLIPPED),
            (post is None, NORM_NOT_SEEN),
            (post is not None and pre is None, PRE_NOT_SEEN),
            (not losses, LOSS_NOT_SEEN),
        )
        return tuple(text for holds, text in told if holds)


def factor(limit: float, total: float) -> float:
    """What clipping to ``limit`` multiplies a gradient of norm ``total`` with; NaN for a norm that is NaN."""
    if math.isnan(total):
        return math.nan
    return min(1.0, limit / (total + _EPSILON))


def _is_scaled(clip: Clip[Number], gradient: Gradient | None) -> bool:
    return clip.before_unscaling and gradient is not None and gradient.scale is not None


def _read(gradient: Gradient | None, rest: Iterator[float]) -> tuple[dict[int, float], bool, float]:
    """Give the unscaled norms by place, whether a fused kernel skipped, and the scale."""
    if gradient is None:
        return {}, False, 1.0
    scale = 1.0 if gradient.scale is None else next(rest)
    skipped = gradient.found_inf is not None and next(rest) > 0
    return {place: next(rest) / scale for place in gradient.places}, skipped, scale


def _length(norms: Mapping[int, float]) -> float | None:
    # math.hypot neither overflows nor underflows where a sum of squares would; it prefers inf to NaN.
    if not norms:
        return None
    return math.nan if any(map(math.isnan, norms.values())) else math.hypot(*norms.values())


def _layers(norms: Mapping[int, float], coef: float | None) -> dict[int, float]:
    if coef is None or not coef > 0:
        return {}
    return {place: norm / coef for place, norm in norms.items()}
