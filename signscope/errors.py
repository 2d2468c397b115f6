"""Errors of a run that reach a person: what happened, to what, and what to do next.

Every error that SignScope raises on purpose is a :class:`SignScopeError`. The window shows its three
parts in a dialog, the command line prints them on standard error; neither shows a traceback for it.
"""

from __future__ import annotations

from typing import ClassVar


class SignScopeError(Exception):
    """Base of all errors meant for a person.

    Args:
        what: What happened, one sentence without its full stop ("The corpus cannot be read").
        subject: To what it happened: a path, a setting, a device.
        hint: What the person can do next, one or two full sentences.
    """

    exit_status: ClassVar[int] = 2
    """Status of a command that ends with this error."""

    def __init__(self, what: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(what, subject, hint)
        self.what = what
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.what}: {self.subject}." if self.subject else f"{self.what}."
        return f"{head} {self.hint}".rstrip()


class RunFolderError(SignScopeError):
    """A run folder cannot be made, opened, locked or written."""


class LedgerError(RunFolderError):
    """The ledger of a run cannot be read or written, or breaks one of its invariants."""


class LedgerCutError(LedgerError):
    """Rows were cut while they were read, because the run went on from an earlier batch: read them anew."""


class UpdateAuditError(SignScopeError):
    """The optimizer was about to consume another gradient than the recorded one."""
