"""A training run: written, read, steered, watched. What stands here is the public API.

Each name is imported when it is first asked for, so ``import signscope`` costs a script nothing. Using them needs
the standard library, numpy and filelock; watching needs the torch that is being watched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from signscope.version import VERSION as __version__

if TYPE_CHECKING:
    from signscope.errors import LedgerCutError, LedgerError, RunFolderError, SignScopeError
    from signscope.folder import About, CorpusInfo, RunFolder, RunInfo
    from signscope.ledger import Ledger
    from signscope.reader import LedgerReader
    from signscope.records import (
        EpochRecord,
        Evaluation,
        EventKind,
        Outcome,
        RunEventRecord,
        StepRecord,
        WordErrors,
    )
    from signscope.run_state import RunControl, RunEvent, RunState
    from signscope.tally import OutcomeCounts
    from signscope.watching import Run, watch

__all__ = [
    "About",
    "CorpusInfo",
    "EpochRecord",
    "Evaluation",
    "EventKind",
    "Ledger",
    "LedgerCutError",
    "LedgerError",
    "LedgerReader",
    "Outcome",
    "OutcomeCounts",
    "Run",
    "RunControl",
    "RunEvent",
    "RunEventRecord",
    "RunFolder",
    "RunFolderError",
    "RunInfo",
    "RunState",
    "SignScopeError",
    "StepRecord",
    "WordErrors",
    "__version__",
    "watch",
]

_HOMES = {
    "About": "signscope.folder",
    "CorpusInfo": "signscope.folder",
    "EpochRecord": "signscope.records",
    "Evaluation": "signscope.records",
    "EventKind": "signscope.records",
    "Ledger": "signscope.ledger",
    "LedgerCutError": "signscope.errors",
    "LedgerError": "signscope.errors",
    "LedgerReader": "signscope.reader",
    "Outcome": "signscope.records",
    "OutcomeCounts": "signscope.tally",
    "Run": "signscope.watching",
    "RunControl": "signscope.run_state",
    "RunEvent": "signscope.run_state",
    "RunEventRecord": "signscope.records",
    "RunFolder": "signscope.folder",
    "RunFolderError": "signscope.errors",
    "RunInfo": "signscope.folder",
    "RunState": "signscope.run_state",
    "SignScopeError": "signscope.errors",
    "StepRecord": "signscope.records",
    "WordErrors": "signscope.records",
    "watch": "signscope.watching",
}


def __getattr__(name: str) -> Any:
    """Give a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'signscope' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
