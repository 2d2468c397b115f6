"""The learning rate as a pure function of the number of applied updates."""

from __future__ import annotations

import math

from core.config import OptimConfig


def learning_rate(applied: int, total: int, config: OptimConfig) -> float:
    """Give the learning rate of the next update.

    Linear warm-up over ``warmup_steps`` updates, then half a cosine down to ``min_lr_share`` of the
    highest rate (Loshchilov and Hutter, "SGDR", 2017). A batch that was not applied does not count.

    Args:
        applied: Updates applied so far.
        total: Updates that the whole run will apply if every batch is.
    """
    if applied < config.warmup_steps:
        return config.lr * (applied + 1) / config.warmup_steps
    span = max(1, total - config.warmup_steps)
    progress = min(1.0, (applied - config.warmup_steps) / span)
    share = config.min_lr_share + (1 - config.min_lr_share) * (1 + math.cos(math.pi * progress)) / 2
    return config.lr * share
