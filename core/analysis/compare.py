"""Runs side by side: where their settings differ, and one curve minus another."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.analysis.history import History
from signscope.errors import RunFolderError
from signscope.folder import RunFolder

MISSING = "-"
"""Stands for a setting that a run does not have (an older or newer version made it)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not the same in all runs: one value a run, in the order of the runs."""

    key: str  # dotted, as in "optim.lr"
    values: tuple[object, ...]


def flat_settings(run: Path) -> dict[str, object]:
    """Give the settings of a run by dotted name, as its config.toml has them, known here or not.

    Raises:
        RunFolderError: The file is missing or not TOML.
    """
    path = RunFolder(run).config_path
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"The settings of the run cannot be read ({error})",
            subject=str(path),
            hint="Restore the file from a backup; the run's ledger can be opened without it.",
        ) from error
    return flatten(values)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Turn nested tables into one with dotted keys, in the order they come."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(settings: Sequence[Mapping[str, object]]) -> list[Difference]:
    """Give the settings that differ between runs, in the order they first come up."""
    keys = dict.fromkeys(key for run in settings for key in run)
    found = [Difference(key, tuple(run.get(key, MISSING) for run in settings)) for key in keys]
    return [entry for entry in found if any(value != entry.values[0] for value in entry.values)]


def delta_curve(
    run: History, baseline: History, name: str, decay: float = 0.0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Give (steps, run minus baseline) of a column at every step that both runs have.

    Args:
        run: The run.
        baseline: What it is compared with.
        name: One of FLOAT_COLUMNS.
        decay: Smooths both with this running mean first; 0 compares the batches themselves.
    """
    steps, mine, theirs = np.intersect1d(
        run.column("step"), baseline.column("step"), assume_unique=True, return_indices=True
    )
    left = _curve(run, name, decay)[mine].astype(np.float64)
    right = _curve(baseline, name, decay)[theirs].astype(np.float64)
    with np.errstate(invalid="ignore"):
        return steps.astype(np.int64), left - right


def _curve(history: History, name: str, decay: float) -> npt.NDArray[np.float32]:
    series = history.smoothed(name, decay) if decay else history.series(name)
    return series.values
