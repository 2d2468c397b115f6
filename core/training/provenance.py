"""What a run was made with, and how that differs from what is here now."""

from __future__ import annotations

import hashlib
import platform
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.analysis.compare import flatten
from core.training.checkpoint import CheckpointState
from signscope.version import VERSION

_CODE_FOLDERS = ("corpus", "landmarks", "model", "training")


def versions() -> dict[str, str]:
    """Give the versions that can change the numbers of a run."""
    return {
        "signscope": VERSION,
        "code": code_fingerprint(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


@cache
def code_fingerprint() -> str:
    """Give a short hash over the source of everything that decides what a run computes."""
    core = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in _CODE_FOLDERS:
        for file in sorted((core / folder).rglob("*.py")):
            digest.update(file.relative_to(core).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def resume_differences(state: CheckpointState, here: Mapping[str, Any]) -> list[str]:
    """Name, one sentence each, what makes a resumed run differ from one never interrupted.

    Args:
        state: What the checkpoint was made with.
        here: The same fields as they are now.
    """
    differences = []
    if state.corpus_fingerprint != here["corpus_fingerprint"]:
        differences.append("The corpus has changed since the checkpoint was written.")
    if state.config_toml != here["config_toml"]:
        changed = _changed_settings(state.config_toml, here["config_toml"])
        differences.append(f"Settings were changed: {', '.join(changed)}.")
    if state.policy != here["policy"]:
        differences.append(
            f"The run was made with the update policy {state.policy} and goes on with {here['policy']}."
        )
    differences += [
        f"{name} was {state.versions.get(name, 'unknown')} and is {now} now."
        for name, now in here["versions"].items()
        if state.versions.get(name) != now
    ]
    if state.threads != here["threads"]:
        differences.append(
            f"{state.threads} compute threads were used and {here['threads']} are set now; sums will differ in their last bits."
        )
    if (state.device, state.device_name or here["device_name"]) != (
        here["device"],
        here["device_name"],
    ):
        before = _device(state.device, state.device_name)
        now = _device(here["device"], here["device_name"])
        differences.append(f"The run was made on {before} and goes on on {now}.")
    if state.schema_version == 1:
        differences.append(
            "The checkpoint is of an earlier version of SignScope; dropout may go on with other random numbers."
        )
    return differences


def _device(device: str, name: str) -> str:
    return f"{device} ({name})" if name else device


def _changed_settings(old: str, new: str) -> list[str]:
    before, after = flatten(tomllib.loads(old)), flatten(tomllib.loads(new))
    return [
        f"{name} ({before.get(name, 'not set')}, now {after.get(name, 'not set')})"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
