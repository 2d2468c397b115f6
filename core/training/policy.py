"""What is done with a gradient: the one right policy, and the two that replay compares it with.

Normal training always uses :func:`clip_policy`. ``skip:T`` does what the faulty script did: it
clips, and then throws the update away because the norm *before* clipping was above T. It exists
for replay only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.errors import ConfigError
from signscope.records import Outcome


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """Clipping bound and skipping threshold of a run; None leaves the step out."""

    name: str
    max_norm: float | None
    skip_above: float | None = None

    def decide(self, loss: float, grad_norm_pre: float) -> Outcome:
        """Say what becomes of a batch. A finite gradient is applied, unless a replay skips it."""
        if not math.isfinite(loss):
            return Outcome.SKIPPED_NON_FINITE_LOSS
        if not math.isfinite(grad_norm_pre):
            return Outcome.SKIPPED_NON_FINITE_GRADIENT
        if self.skip_above is not None and grad_norm_pre > self.skip_above:
            return Outcome.SKIPPED_BY_POLICY
        return Outcome.APPLIED


def clip_policy(max_norm: float) -> UpdatePolicy:
    """Give the policy of all normal training: clip to ``max_norm``, always apply."""
    return UpdatePolicy("clip", max_norm)


def parse_policy(text: str, max_norm: float) -> UpdatePolicy:
    """Read ``clip``, ``none`` or ``skip:T``; raises ConfigError for anything else."""
    name, _, threshold = text.strip().partition(":")
    if name == "clip" and not threshold:
        return clip_policy(max_norm)
    if name == "none" and not threshold:
        return UpdatePolicy("none", None)
    if name == "skip":
        try:
            value = float(threshold)
        except ValueError:
            value = math.nan
        if value > 0 and math.isfinite(value):
            # Not :g, whose six digits would be another threshold when the name is read back.
            return UpdatePolicy(f"skip:{str(value).removesuffix('.0')}", max_norm, value)
    raise ConfigError(
        "This update policy is not known",
        subject=repr(text),
        hint="Use clip, none, or skip:T with a number above 0, for example skip:100.",
    )
