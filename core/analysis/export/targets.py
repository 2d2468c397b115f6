"""Where an export goes: a file or a folder that appears whole or not at all, and replaces nothing unasked."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from core.errors import ExportError
from signscope.files import replacing

EVENT_FILE_PREFIX = "events.out.tfevents."
"""How the name of a TensorBoard file begins; a folder with anything else in it is never replaced."""


@contextlib.contextmanager
def new_file(target: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Give a file to write that becomes ``target`` when the block ends well, and is gone otherwise.

    Raises:
        ExportError: ``target`` exists and is not to be replaced, or cannot be written.
    """
    _refuse_existing(target, overwrite)
    with _telling(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            yield file


@contextlib.contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to fill that becomes ``target`` when the block ends well, and is gone otherwise.

    It replaces only a folder that holds nothing but event files.

    Raises:
        ExportError: ``target`` exists and is not to be replaced, holds something else, or cannot be
            written.
    """
    with _telling(target):
        empty = target.is_dir() and not any(target.iterdir())
        if not empty:
            _refuse_existing(target, overwrite)
            _refuse_foreign_folder(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    try:
        with _telling(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise ExportError(
            "The target exists already",
            subject=str(target),
            hint="Choose another name, or say that it may be replaced.",
        )


def _refuse_foreign_folder(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir() or not all(
        file.is_file() and file.name.startswith(EVENT_FILE_PREFIX) for file in target.iterdir()
    ):
        raise ExportError(
            "The target is not a TensorBoard folder and is not replaced",
            subject=str(target),
            hint="Choose a new folder.",
        )


@contextlib.contextmanager
def _telling(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"The export cannot be written ({error.strerror or error})",
            subject=str(target),
            hint="Check that the disk has room and that the folder is not read-only.",
        ) from error
