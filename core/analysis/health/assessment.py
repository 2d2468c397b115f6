"""Detectors: what a person should look at in a run, with the numbers that say so.

Each detector is a small pure function over what the ledger keeps: the columns of the steps, the
epochs, the statistics of the input. It gives one :class:`Finding` or None, stops nothing, and stays
silent on a run that does well. Large norms, 100 % clipping and a phase of blanks are how a healthy
run of CTC begins; a detector speaks of them only when they outlast that beginning.

Free of torch; :func:`assess` takes well under a millisecond and may be called in any thread.

Every threshold stands beside the reason for it. Figures "of healthy runs" are from the demo corpus
and from real clips spliced into sentences of 6 to 10 signs, with the default settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from core.analysis.health.answers import answers_nothing, blank_collapse, learned_nothing
from core.analysis.health.findings import Finding, Severity
from core.analysis.health.inputs import (
    double_normalization,
    landmark_mismatch,
    missing_landmarks,
)
from core.analysis.health.learning import PLATEAU_WINDOW, divergence, plateau
from core.analysis.health.speed import data_starvation
from core.analysis.health.updates import (
    clip_saturation,
    discarded,
    latched,
    vanishing_gradients,
)
from core.analysis.health.window import COLUMNS, START_BATCHES, StepWindow
from core.landmarks.input_statistics import InputStatistics
from signscope.folder import RunFolder
from signscope.reader import LedgerReader
from signscope.records import EpochRecord, StepRecord
from signscope.schema import AnyArray, columns_of

RUN_LOOK_BACK = 50_000
"""Newest batches of a finished run that are assessed: about half a second to read."""

INPUTS_META = "inputs"
"""Key of the input statistics among the facts of a ledger."""


def assess(
    window: StepWindow,
    epochs: Sequence[EpochRecord] = (),
    inputs: InputStatistics | None = None,
    preview: InputStatistics | None = None,
    *,
    total: int | None = None,
    finished: bool = False,
) -> tuple[Finding, ...]:
    """Give all findings of a run, the gravest first.

    Args:
        window: Its batches.
        epochs: Its finished epochs, oldest first.
        inputs: What its input looked like at the start, where that was measured.
        preview: What the camera preview shows, where it is on.
        total: Batches that the run sets out to do, where that is known.
        finished: Whether it did them all, so that a verdict on it is due.
    """
    diverged = divergence(window)
    verdict = learned_nothing(window, epochs) if finished else None
    mute = answers_nothing(window, epochs, PLATEAU_WINDOW)
    thrown_away = discarded(window)
    found = (
        double_normalization(inputs) if inputs else None,
        missing_landmarks(inputs) if inputs else None,
        landmark_mismatch(inputs, preview) if inputs else None,
        thrown_away,
        # Why no update was applied is named already.
        None if thrown_away else latched(window),
        diverged,
        vanishing_gradients(window),
        verdict,
        # What the verdict says is said once; and a loss is flat while nothing is answered, which is
        # for blank_collapse to judge, or after it diverged.
        blank_collapse(window, epochs, total) if not verdict else None,
        plateau(window, epochs) if not (verdict or mute or diverged) else None,
        clip_saturation(window),
        data_starvation(window),
    )
    order = list(Severity)
    return tuple(
        sorted(
            (finding for finding in found if finding is not None),
            key=lambda finding: order.index(finding.severity),
        )
    )


def assess_run(run: Path) -> tuple[Finding, ...]:
    """Give the findings of the run in folder ``run``, from its ledger; also while it is being trained.

    Reads the first START_BATCHES and the newest RUN_LOOK_BACK batches.

    Raises:
        LedgerError: The ledger is missing, damaged, or of another format.
        RunFolderError: run.json is missing or damaged.
    """
    info = RunFolder(run).read_info()
    with LedgerReader(RunFolder(run).ledger_path) as reader:
        last = reader.last_step()
        newest = 0 if last is None else max(0, last + 1 - RUN_LOOK_BACK)
        window = StepWindow(
            _columns(reader.steps(0, START_BATCHES - 1)),
            _columns(reader.steps(newest)),
        )
        epochs = reader.epochs()
        return assess(
            window,
            epochs,
            read_inputs(reader.meta()),
            total=info.total_epochs * epochs[0].batches if epochs else None,
            finished=info.state == "finished",
        )


def _columns(records: Sequence[StepRecord]) -> dict[str, AnyArray]:
    """Give COLUMNS of ``records``."""
    columns = columns_of(records)
    return {name: columns[name] for name in COLUMNS}


def read_inputs(meta: Mapping[str, str]) -> InputStatistics | None:
    """Give the input statistics among the facts of a ledger; None for none of this version of the program."""
    try:
        return InputStatistics.from_json(meta[INPUTS_META])
    except (KeyError, ValueError, TypeError):
        return None
