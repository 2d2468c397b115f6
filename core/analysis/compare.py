"""Runs side by side: where their settings differ."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
