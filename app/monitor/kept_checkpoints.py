"""The checkpoints that a run folder keeps, as events for the plots: from each the run can go on."""

from __future__ import annotations

from pathlib import Path

from signscope.records import EventKind, RunEventRecord

_PREFIX = "step-"


def kept_checkpoints(folder: Path) -> tuple[RunEventRecord, ...]:
    """Give the checkpoint files of ``folder`` in the order of their steps; none where it is missing.

    Only names are read: no checkpoint is opened, and torch is not imported.
    """
    found = []
    for path in sorted(folder.glob(f"{_PREFIX}*.safetensors")):
        number = path.stem.removeprefix(_PREFIX)
        if number.isdecimal():
            text = f"kept as {path.name}; the run can be resumed from here"
            found.append(RunEventRecord(int(number), EventKind.CHECKPOINT, text, 0.0))
    return tuple(found)
