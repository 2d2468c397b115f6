"""Errors that reach a person: what happened, to what, and what to do next.

Every error that SignScope raises on purpose is a :class:`SignScopeError`. The window shows its three
parts in a dialog, the command line prints them on standard error; neither shows a traceback for it.
"""

from __future__ import annotations


class SignScopeError(Exception):
    """Base of all errors meant for a person.

    Args:
        what: What happened, one sentence without its full stop ("The corpus cannot be read").
        subject: To what it happened: a path, a setting, a device.
        hint: What the person can do next, one or two full sentences.
    """

    def __init__(self, what: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(what, subject, hint)
        self.what = what
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.what}: {self.subject}." if self.subject else f"{self.what}."
        return f"{head} {self.hint}".rstrip()


class ConfigError(SignScopeError):
    """A setting is unknown, of the wrong type, or out of its bounds."""


class DeviceError(SignScopeError):
    """The asked-for compute device is not there or ran out of memory."""


class CorpusError(SignScopeError):
    """A corpus folder cannot be opened, is damaged, or cannot be trained on."""


class AlreadyNormalizedError(CorpusError):
    """Landmarks that are already normalised were about to be normalised again."""


class MalformedInputError(CorpusError):
    """A file given to an importer is not what its layout promises."""


class ModelFileError(SignScopeError):
    """A landmark model file is missing, cannot be fetched, or has the wrong hash."""


class CameraError(SignScopeError):
    """A camera or video cannot be opened, is busy, or stopped giving frames."""


class SystemLibraryError(SignScopeError):
    """A library of the operating system that Qt or MediaPipe needs is missing."""


class RunFolderError(SignScopeError):
    """A run folder cannot be made, opened, locked or written."""


class LedgerError(RunFolderError):
    """The ledger of a run cannot be read or written, or breaks one of its invariants."""


class CheckpointError(RunFolderError):
    """A checkpoint is missing, truncated, tampered with, or of another format."""


class ExportError(SignScopeError):
    """An export could not be written."""


class UpdateAuditError(SignScopeError):
    """The optimizer was about to consume another gradient than the recorded one."""
