"""A training run: written, read, steered. What stands here is the public API.

Importing this needs the standard library, numpy and filelock; ``signscope.norms`` is the one module that
needs torch.
"""

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
from signscope.version import VERSION as __version__

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
]
