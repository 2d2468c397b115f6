"""Policy replay: the same weights and the same batches, trained once for each update policy.

Everything but the policy is equal: the initial weights come from the seed, and a batch is a pure
function of corpus, settings and seed. Each policy leaves a whole run folder with its own ledger, so
what the table says can be checked row by row.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from core.config import (
    DEMO_CORPUS,
    AugmentConfig,
    CheckpointConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
)
from core.errors import ConfigError
from core.training.policy import UpdatePolicy, parse_policy
from core.training.session import TrainingJob, run_job
from signscope.folder import write_atomically
from signscope.ledger import LedgerReader
from signscope.records import Outcome, TrainingObserver
from signscope.run_state import RunControl

STORY_SHARE = 0.07
"""The story's measure of progress: loss 91 -> 6.4 is 7 % of the first loss."""

STORY_RATIO = 283 / 50
"""The story's claim: clipping needs 5.66 times fewer batches than skipping."""

DEFAULT_POLICIES = ("clip", "skip:100")
DEFAULT_STEPS = 300
PATIENCE = 6
"""When no number of batches is named, the other policies get this many times the batches that
clipping needed: the least that can show the story's ratio."""

ObserverFactory = Callable[[UpdatePolicy, int], Sequence[TrainingObserver]]
"""Gives the observers of one policy's run, from the policy and its number of batches."""


def story_config(corpus: str = DEMO_CORPUS, seed: int = 0) -> RunConfig:
    """Give the settings of the story's regime: first losses around 150, first norms of 100-350.

    Time is halved once only, so that a sentence has many encoder steps and its summed loss starts
    high; the model is small and nothing is random but the weights and the order, so that a minute on
    two cores is enough. See docs/decisions/013-policy-replay.md.
    """
    unchanged = AugmentConfig(
        mirror=0, tempo=0, rotation_deg=0, scale=0, hand_dropout=0, frame_dropout=0
    )
    return RunConfig(
        seed=seed,
        threads=1,  # steps this small only wait for a second thread
        data=DataConfig(corpus=corpus, batch_size=8, augment=unchanged),
        model=ModelConfig(part_dim=64, width=128, layers=1, strides=(2,), dropout=0),
        optim=OptimConfig(epochs=50, lr=0.006, warmup_steps=5, beta2=0.95),
        checkpoint=CheckpointConfig(every_batches=0, every_minutes=0, keep=1),
    )


@dataclass(frozen=True)
class PolicyResult:
    """What one policy made of the batches. Counted from its ledger."""

    policy: str
    run: str  # path of its run folder
    batches: int
    applied: int
    clipped: int
    non_finite: int
    first_loss: float
    last_loss: float
    first_norm: float  # pre-clip norm of the first batch
    max_norm_seen: float  # largest finite pre-clip norm
    share: float  # the share of the first loss that had to be reached
    batches_to_share: int | None  # batches until a batch's loss was there; None: never
    longest_gap: int  # most batches in a row without an update
    wer: float | None  # dev WER after the last batch; None when it was not evaluated


@dataclass(frozen=True)
class ReplayResult:
    """All policies of one replay."""

    corpus: str
    seed: int
    policies: dict[str, PolicyResult]

    @property
    def ratio(self) -> float | None:
        """How many times fewer batches clipping needs than the first skipping policy.

        Where skipping never got there, the batches that it was given stand in, so the true ratio is
        larger. None when clipping did not get there or one of the two was not replayed.
        """
        clip = self.policies.get("clip")
        skip = next((r for name, r in self.policies.items() if name.startswith("skip:")), None)
        if clip is None or skip is None or clip.batches_to_share is None:
            return None
        return (skip.batches_to_share or skip.batches) / clip.batches_to_share

    def to_json(self) -> str:
        """Give everything as JSON text; NaN never stands in it."""
        values = asdict(self) | {"ratio": self.ratio, "story_ratio": STORY_RATIO}
        return json.dumps(_without_nan(values), indent=2) + "\n"


def replay(
    config: RunConfig,
    policies: Sequence[str],
    *,
    steps: int | None,
    runs_dir: Path,
    control: RunControl,
    observers_for: ObserverFactory = lambda policy, steps: (),
    share: float = STORY_SHARE,
) -> ReplayResult:
    """Train ``steps`` batches with each policy, one after the other, in the calling thread.

    Clipping goes first. With ``steps`` None it gets DEFAULT_STEPS batches, and the others PATIENCE
    times as many as clipping needed to reach the share. The caller applies START to ``control`` before and FINISHED or FAILED after. A stop ends the
    replay after the batch at hand; the policies done so far are in the result.

    Raises:
        ConfigError: A policy is not known, or there is none.
        SignScopeError: As ``run_job``.
    """
    parsed = [parse_policy(text, config.optim.max_norm) for text in policies]
    if not parsed:
        raise ConfigError(
            "There is no policy to replay", hint="Name at least one, for example clip,skip:100."
        )
    parsed.sort(key=lambda policy: policy.name != "clip")
    stamp = time.strftime("%Y-%m-%d %H.%M.%S")
    limit = steps or DEFAULT_STEPS
    results: dict[str, PolicyResult] = {}
    for policy in parsed:
        if control.wants_stop():
            break
        job = TrainingJob(
            config.model_copy(update={"name": f"replay {stamp} {policy.name}"}),
            runs_dir,
            policy=policy,
            max_steps=limit,
        )
        run = run_job(job, control, observers_for(policy, limit)).run_path
        result = results[policy.name] = measure_policy(policy.name, run, share)
        if steps is None and policy.name == "clip" and result.batches_to_share is not None:
            limit = PATIENCE * result.batches_to_share
    return ReplayResult(config.data.corpus, config.seed, results)


def measure_policy(policy: str, run: Path, share: float = STORY_SHARE) -> PolicyResult:
    """Count one finished replay run from its ledger."""
    with LedgerReader(run / "ledger.sqlite") as reader:
        steps = reader.steps()
        evaluations = [evaluation for _, evaluation in reader.evaluations()]
    losses = [step.loss for step in steps]
    dev = [evaluation for evaluation in evaluations if evaluation.split == "dev"]
    first_loss = losses[0] if losses else math.nan
    norms = [step.grad_norm_pre for step in steps]
    return PolicyResult(
        policy=policy,
        run=str(run),
        batches=len(steps),
        applied=sum(step.outcome.applied for step in steps),
        clipped=sum(step.clipped for step in steps),
        non_finite=sum(step.outcome.non_finite for step in steps),
        first_loss=first_loss,
        last_loss=losses[-1] if losses else math.nan,
        first_norm=norms[0] if norms else math.nan,
        max_norm_seen=max((norm for norm in norms if math.isfinite(norm)), default=math.nan),
        share=share,
        batches_to_share=batches_to_reach(losses, share * first_loss),
        longest_gap=longest_gap([step.outcome for step in steps]),
        wer=dev[-1].errors.wer if dev else None,
    )


def batches_to_reach(losses: Sequence[float], target: float) -> int | None:
    """Give how many batches it took until one had a loss of at most ``target``; None for never."""
    return next((i + 1 for i, loss in enumerate(losses) if loss <= target), None)


def longest_gap(outcomes: Sequence[Outcome]) -> int:
    """Give the most batches in a row of which none changed the weights."""
    longest = current = 0
    for outcome in outcomes:
        current = 0 if outcome.applied else current + 1
        longest = max(longest, current)
    return longest


def table(result: ReplayResult) -> list[str]:
    """Give the comparison as lines of text."""
    share = next(iter(result.policies.values())).share if result.policies else STORY_SHARE
    lines = [
        f"{'policy':<10} {'applied':>12} {'first loss':>10} {'last loss':>10} "
        f"{f'to {share:.0%}':>8} {'longest gap':>11} {'WER':>7}"
    ]
    for r in result.policies.values():
        reached = "never" if r.batches_to_share is None else str(r.batches_to_share)
        wer = "n/a" if r.wer is None else f"{100 * r.wer:.1f}%"
        lines.append(
            f"{r.policy:<10} {f'{r.applied}/{r.batches}':>12} {r.first_loss:>10.2f} {r.last_loss:>10.2f} "
            f"{reached:>8} {r.longest_gap:>11} {wer:>7}"
        )
    return lines


def save_result(result: ReplayResult, path: Path) -> None:
    """Write the JSON file; raises RunFolderError when that is not possible."""
    write_atomically(path, result.to_json().encode())


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
