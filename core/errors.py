"""Errors of the trainer that reach a person; their base and those of a run are in signscope.errors."""

from __future__ import annotations

from typing import ClassVar

from signscope.errors import RunFolderError, SignScopeError


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


class CheckpointError(RunFolderError):
    """A checkpoint is missing, truncated, tampered with, or of another format."""


class ExportError(SignScopeError):
    """An export could not be written."""


class PausedItselfError(SignScopeError):
    """A run in a terminal paused itself, and what made it pause kept its last work from being written."""

    exit_status: ClassVar[int] = 3
