"""What a run was made with, and how that differs from what is here now."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

import numpy as np
import torch

from core.config import RunConfig, config_to_toml
from core.corpus.reader import Corpus
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


def resume_differences(
    state: CheckpointState, config: RunConfig, corpus: Corpus, threads: int, device: str
) -> list[str]:
    """Name, one sentence each, what makes a resumed run differ from one never interrupted."""
    differences = []
    if state.corpus_fingerprint != corpus.fingerprint:
        differences.append("The corpus has changed since the checkpoint was written.")
    if state.config_toml != config_to_toml(config):
        changed = _changed_settings(state.config_toml, config_to_toml(config))
        differences.append(f"Settings were changed: {', '.join(changed)}.")
    here = versions()
    differences += [
        f"{name} was {state.versions.get(name, 'unknown')} and is {here[name]} now."
        for name in here
        if state.versions.get(name) != here[name]
    ]
    if state.threads != threads:
        differences.append(
            f"{state.threads} compute threads were used and {threads} are set now; sums will differ in their last bits."
        )
    if state.device != device:
        differences.append(f"The run was made on {state.device} and goes on on {device}.")
    return differences


def _changed_settings(old: str, new: str) -> list[str]:
    before, after = set(old.splitlines()), set(new.splitlines())
    return sorted({line.partition("=")[0].strip() for line in before ^ after if "=" in line})
