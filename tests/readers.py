"""The processes in which this one has pictures read."""

from __future__ import annotations

import psutil


def readers() -> list[psutil.Process]:
    """Give those that were started and not buried, the dead included; not what multiprocessing keeps for itself."""
    return [child for child in psutil.Process().children() if not _of_multiprocessing(child)]


def _of_multiprocessing(process: psutil.Process) -> bool:
    try:
        return any("multiprocessing" in part for part in process.cmdline())
    except psutil.Error:  # a dead one has no command line
        return False
