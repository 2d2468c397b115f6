"""How often the detectors of a run's health cry wolf, and what they miss.

    python -m bench.bench_health --keep FOLDER [--mp-data FOLDER] [--seed N] [--no-training]

Trains the runs of :mod:`bench.health_runs` (some 40 minutes on two cores; those that lie in FOLDER
already are not trained again), then lets the detectors look at each of them as the window does: every
LOOK_EVERY batches at what was there by then, and once more at its end. Prints one JSON line a run,
one a detector (the clean runs in which it spoke, as a warning or graver) and one a fault (the planted
runs in which no due detector spoke, and the batches until one did).

A run with sound settings counts as clean when it learned: when its last WER on the dev split is below
LEARNED_WER. One that had not when it was ended is neither clean nor planted, and is named apart.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.health_runs import Plan, finished_run, make_corpora, plans, train_missing
from core.analysis.health.answers import BLANK_SHARE
from core.analysis.health.assessment import assess, read_inputs
from core.analysis.health.findings import Finding, Severity
from core.analysis.health.findings import FindingKind as Kind
from core.analysis.health.window import COLUMNS, StepWindow
from core.analysis.history import History
from core.landmarks.input_statistics import InputStatistics
from signscope.folder import RunFolder
from signscope.reader import LedgerReader
from signscope.records import EpochRecord
from signscope.schema import AnyArray

LOOK_EVERY = 20
"""Batches between two looks; the window looks every two seconds, which is 20 to 100 batches."""
LEARNED_WER = 0.8
ALARMS = (Severity.CRITICAL, Severity.WARNING)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="folder for corpora and runs")
    parser.add_argument(
        "--mp-data", type=Path, help="folder of MP_Data recordings of three signers"
    )
    parser.add_argument("--no-training", action="store_true", help="only the runs that are there")
    parser.add_argument("--seed", type=int, default=0, help="added to all seeds: runs never seen")
    parser.add_argument("--nice", type=int, default=10, help="added to the niceness of training")
    options = parser.parse_args()
    wanted = plans(real=options.mp_data is not None, seed=options.seed)
    if not options.no_training:
        corpora = options.keep / "corpora"
        corpora.mkdir(parents=True, exist_ok=True)
        make_corpora(wanted, corpora, options.mp_data, options.seed)
        train_missing(wanted, options.keep, options.nice)
    judged = [
        judge(plan, Recorded.read(folder))
        for plan in wanted
        if (folder := finished_run(plan, options.keep)) is not None
    ]
    for row in [*map(row_of, judged), *by_detector(judged), *by_fault(judged)]:
        print(json.dumps(row), flush=True)


@dataclass(frozen=True)
class Recorded:
    """A run as its ledger tells it."""

    columns: dict[str, AnyArray]
    epochs: list[EpochRecord]
    inputs: InputStatistics | None
    total: int  # batches that it set out to do

    @classmethod
    def read(cls, folder: Path) -> Recorded:
        """Read the run in ``folder``; raises LedgerError and RunFolderError."""
        run = RunFolder(folder)
        with LedgerReader(run.ledger_path) as reader:
            history = History.from_ledger(reader)
            epochs = reader.epochs()
            inputs = read_inputs(reader.meta())
        columns = {name: history.column(name) for name in COLUMNS}
        return cls(columns, epochs, inputs, run.info.total_epochs * epochs[0].batches)

    def look(self, batches: int, *, finished: bool = False) -> tuple[Finding, ...]:
        """Give what the window would find after ``batches`` batches."""
        part = {name: values[:batches] for name, values in self.columns.items()}
        done = np.cumsum([record.batches for record in self.epochs])
        epochs = self.epochs[: int(np.searchsorted(done, batches, side="right"))]
        return assess(StepWindow.of(part), epochs, self.inputs, total=self.total, finished=finished)


@dataclass(frozen=True)
class Judged:
    """What the detectors said about one run, and what they had to."""

    plan: Plan
    run: Recorded
    said: dict[Kind, list[int]]  # batches after which a look found it, as a warning or graver
    at_end: tuple[Finding, ...]

    @property
    def batches(self) -> int:
        """How many there are."""
        return len(self.run.columns["step"])

    @property
    def wer(self) -> float:
        """The last on the dev split."""
        dev = self.run.epochs[-1].dev
        return math.nan if dev is None else dev.errors.wer

    @property
    def clean(self) -> bool:
        """Whether there is nothing to speak of."""
        return not self.plan.due and self.wer < LEARNED_WER

    @property
    def due(self) -> tuple[Kind, ...]:
        """Kinds of which one has to speak."""
        return self.plan.due

    @property
    def fault(self) -> str:
        """The name of what was planted."""
        return re.sub(r"-\d+$", "", self.plan.name)

    @property
    def first_due(self) -> int | None:
        """After how many batches the first due detector spoke; None for never."""
        return min((self.said[kind][0] for kind in self.due if kind in self.said), default=None)

    @property
    def blanks_until(self) -> int | None:
        """The first batch that is not answered with blanks only, and stays so for most of ten."""
        heard = self.run.columns["blank_fraction"].astype(np.float64) < BLANK_SHARE
        lasting = np.convolve(heard[5:], np.ones(10), "valid") > 5
        return int(np.argmax(lasting)) + 5 if lasting.any() else None


def judge(plan: Plan, run: Recorded) -> Judged:
    """Let the detectors look at ``run`` from its beginning to its end."""
    batches = len(run.columns["step"])
    said: dict[Kind, list[int]] = {}
    at_end = run.look(batches, finished=True)
    looks = [(n, run.look(n)) for n in range(LOOK_EVERY, batches, LOOK_EVERY)]
    for n, findings in [*looks, (batches, at_end)]:
        for finding in findings:
            if finding.severity in ALARMS:
                said.setdefault(finding.kind, []).append(n)
    return Judged(plan, run, said, at_end)


def row_of(judged: Judged) -> dict[str, object]:
    """Give what is printed of one run."""
    return {
        "run": judged.plan.name,
        "clean": judged.clean,
        "batches": judged.batches,
        "of": judged.run.total,
        "wer": _round(judged.wer),
        "blanks_until": judged.blanks_until,
        "due": [str(kind) for kind in judged.due],
        "said": {str(kind): [looks[0], looks[-1]] for kind, looks in judged.said.items()},
        "at_end": [f"{finding.severity}: {finding.title}" for finding in judged.at_end],
    }


def by_detector(judged: Sequence[Judged]) -> list[dict[str, object]]:
    """Count for each detector the clean runs in which it spoke."""
    clean = [one for one in judged if one.clean]
    rows: list[dict[str, object]] = []
    for kind in Kind:
        spoke = [one.plan.name for one in clean if kind in one.said]
        rows.append(
            {"detector": kind, "clean": len(clean), "false_alarms": len(spoke), "in": spoke}
        )
    any_kind = [one.plan.name for one in clean if one.said]
    return [*rows, {"detector": "any", "clean": len(clean), "false_alarms": len(any_kind)}]


def by_fault(judged: Sequence[Judged]) -> list[dict[str, object]]:
    """Count for each fault the planted runs in which none of its detectors spoke."""
    rows: list[dict[str, object]] = []
    planted = [one for one in judged if one.due]
    for fault in dict.fromkeys(one.fault for one in planted):
        rows.append({"fault": fault, **_missed([one for one in planted if one.fault == fault])})
    silent = [one.plan.name for one in planted if not one.at_end]
    apart = [one.plan.name for one in judged if not one.due and not one.clean]
    total = {"fault": "any", **_missed(planted), "no_problems_at_end": silent}
    return [*rows, total, {"sound_but_not_learned": apart}]


def _missed(planted: Sequence[Judged]) -> dict[str, object]:
    spoke = [one.first_due for one in planted if one.first_due is not None]
    return {
        "planted": len(planted),
        "missed": [one.plan.name for one in planted if one.first_due is None],
        "batches_until": {"median": statistics.median(spoke), "most": max(spoke)} if spoke else {},
    }


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


if __name__ == "__main__":
    main()
