"""Watching somebody's own training: :func:`watch` is the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signscope.watching.run import Run, begin

__all__ = ["Run", "watch"]


def watch(
    name: str = "",
    out: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    control: bool = True,
) -> Run:
    """Watch the training in this process from now on, and write it into a run folder.

    Nothing else has to be told: losses, gradient norms before and after clipping, learning rate, the norm of every
    layer, and what became of every gradient are seen from PyTorch's own functions. Call it before the optimizer is
    made, best at the top of the script; what had been made before is found where it can be, and what cannot be seen
    is recorded as not seen. The first call makes the run; a later one, or one under ``signscope watch``, gives the
    run that there is. Call it in the thread that trains.

    Args:
        name: What people call the run; the script's name and the time, unless given.
        out: Folder in which the run's own folder is made; that of all runs, unless given.
        config: Settings of the script, kept beside the run.
        control: Whether others may pause and stop the script through the run folder. A stop arrives as
            KeyboardInterrupt at the next ``optimizer.step``.

    Raises:
        RunFolderError: The run folder cannot be made or written. Nothing is raised later.
    """
    return begin(name, out, config, control=control)
