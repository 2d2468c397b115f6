"""What a replay came to, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.training.replay import ReplayResult


def verdict(result: ReplayResult) -> str:
    """Say in a sentence what clipping and the first skipping policy came to; empty without both."""
    clip = result.policies.get("clip")
    skip = next((each for name, each in result.policies.items() if name.startswith("skip:")), None)
    if clip is None or skip is None or not clip.batches or not skip.batches:
        return ""
    goal = f"{100 * clip.share:g} % of the first loss"
    if clip.batches_to_share is None:
        if skip.batches_to_share is None:
            return f"Neither clip nor {skip.policy} reached {goal} in {clip.batches} batches."
        return (
            f"{skip.policy} reached {goal} in {skip.batches_to_share} batches, "
            f"clip did not in {clip.batches}."
        )
    if skip.batches_to_share is None:
        return (
            f"Clipping reached {goal} in {clip.batches_to_share} batches. {skip.policy} did not in "
            f"{skip.batches}, and applied {skip.applied} of {skip.batches} updates."
        )
    if skip.batches_to_share == clip.batches_to_share:
        return f"Clipping and {skip.policy} both reached {goal} in {clip.batches_to_share} batches."
    ratio = skip.batches_to_share / clip.batches_to_share
    return (
        f"Clipping reached {goal} in {clip.batches_to_share} batches, {skip.policy} in "
        f"{skip.batches_to_share}: {ratio:.1f} times as many."
    )
