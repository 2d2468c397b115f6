"""What becomes of a gradient, and how a policy is named on the command line."""

from __future__ import annotations

import math

import pytest

from core.errors import ConfigError
from core.training.policy import UpdatePolicy, clip_policy, parse_policy
from signscope.records import Outcome

SKIP = UpdatePolicy("skip:100", 1.0, 100.0)


@pytest.mark.parametrize(
    ("policy", "loss", "norm", "outcome"),
    [
        (clip_policy(1.0), 5.0, 0.5, Outcome.APPLIED),
        (clip_policy(1.0), 5.0, 1e30, Outcome.APPLIED),
        (clip_policy(1.0), math.nan, 0.5, Outcome.SKIPPED_NON_FINITE_LOSS),
        (clip_policy(1.0), math.inf, math.nan, Outcome.SKIPPED_NON_FINITE_LOSS),
        (clip_policy(1.0), 5.0, math.inf, Outcome.SKIPPED_NON_FINITE_GRADIENT),
        (clip_policy(1.0), 5.0, math.nan, Outcome.SKIPPED_NON_FINITE_GRADIENT),
        (SKIP, 5.0, 99.9, Outcome.APPLIED),
        (SKIP, 5.0, 100.0, Outcome.APPLIED),
        (SKIP, 5.0, 100.1, Outcome.SKIPPED_BY_POLICY),
        (SKIP, 5.0, math.inf, Outcome.SKIPPED_NON_FINITE_GRADIENT),
        (UpdatePolicy("none", None), 5.0, 1e30, Outcome.APPLIED),
    ],
)
def test_only_what_is_not_finite_or_above_a_replays_threshold_is_left_out(
    policy: UpdatePolicy, loss: float, norm: float, outcome: Outcome
) -> None:
    assert policy.decide(loss, norm) is outcome


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("clip", UpdatePolicy("clip", 2.0)),
        (" none ", UpdatePolicy("none", None)),
        ("skip:100", UpdatePolicy("skip:100", 2.0, 100.0)),
        ("skip:0.50", UpdatePolicy("skip:0.5", 2.0, 0.5)),
    ],
)
def test_a_policy_is_read_from_its_name(text: str, policy: UpdatePolicy) -> None:
    assert parse_policy(text, 2.0) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CLIP",
        "clip:1",
        "none:1",
        "skip",
        "skip:",
        "skip:x",
        "skip:0",
        "skip:-1",
        "skip:nan",
        "skip:inf",
        "skip:1:2",
    ],
)
def test_a_policy_that_is_not_known_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="not known") as caught:
        parse_policy(text, 1.0)
    assert caught.value.subject == repr(text)
