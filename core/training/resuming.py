"""Where a run goes on: the checkpoint, the rows of its unfinished epoch, and the best epoch before it."""

from __future__ import annotations

from dataclasses import dataclass

from core.training.checkpoint import (
    BestEpoch,
    Checkpoint,
    best_epoch,
    newest_checkpoint,
    read_checkpoint,
)
from signscope.errors import LedgerError
from signscope.folder import RunFolder
from signscope.ledger import LedgerReader
from signscope.records import StepRecord


@dataclass(frozen=True, slots=True)
class Position:
    """Where a resumed run goes on. Read and checked; nothing in its folder was changed for it.

    ``best`` is the best epoch before it whose weights are still there.
    """

    checkpoint: Checkpoint
    rows_of_epoch: list[StepRecord]
    best: BestEpoch | None

    def best_changed(self) -> str:
        """Say what became of the best epoch that the checkpoint knew, if its weights are gone; else nothing."""
        known = self.checkpoint.state.best_wer
        if known is None or (self.best is not None and self.best.wer == known):
            return ""
        lost = f"The best weights before this batch (dev WER {known:.1%}) are not kept any more"
        if self.best is None:
            return f"{lost}; the best are found anew from here"
        return f"{lost}; the best are now those of epoch {self.best.epoch} (dev WER {self.best.wer:.1%})"


def find_position(folder: RunFolder, checkpoint_name: str | None) -> Position:
    """Give where the run in ``folder`` goes on: at its newest checkpoint, or at the one named.

    Raises:
        CheckpointError: There is none, or it is damaged.
        LedgerError: The ledger cannot be read or ends before the checkpoint.
    """
    checkpoint = (
        newest_checkpoint(folder.checkpoints_dir)
        if checkpoint_name is None
        else read_checkpoint(folder.checkpoints_dir / checkpoint_name)
    )
    state = checkpoint.state
    with LedgerReader(folder.ledger_path) as reader:
        last = reader.last_step()
        if (-1 if last is None else last) + 1 < state.step:
            raise LedgerError(
                f"The ledger ends at batch {last}, but the checkpoint was made after {state.step} batches",
                subject=str(folder.ledger_path),
                hint="Resume from an older checkpoint with --checkpoint NAME.",
            )
        rows = reader.steps(state.step - state.batch_idx, state.step - 1) if state.batch_idx else []
        dev_of_epoch = {epoch: e for epoch, e in reader.evaluations() if e.split == "dev"}
    return Position(checkpoint, rows, best_epoch(folder.checkpoints_dir, state.step, dev_of_epoch))
