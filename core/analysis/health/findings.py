"""What the detectors say: findings, each of one kind and one severity."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """What a finding is about. A run has at most one finding of each kind."""

    DOUBLE_NORMALIZATION = "double_normalization"
    MISSING_LANDMARKS = "missing_landmarks"
    LANDMARK_MISMATCH = "landmark_mismatch"
    DISCARDED = "discarded"
    LATCHED = "latched"
    DIVERGENCE = "divergence"
    VANISHING_GRADIENTS = "vanishing_gradients"
    BLANK_COLLAPSE = "blank_collapse"
    LEARNED_NOTHING = "learned_nothing"
    PLATEAU = "plateau"
    CLIP_SATURATION = "clip_saturation"
    DATA_STARVATION = "data_starvation"


class Severity(StrEnum):
    """How much a finding matters."""

    CRITICAL = "critical"  # the run cannot succeed like this
    WARNING = "warning"  # the run probably does worse than it could
    NOTICE = "notice"  # worth knowing, may be intended


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should look at."""

    kind: FindingKind
    severity: Severity
    title: str  # one sentence without its full stop
    evidence: str  # the numbers that say so, full sentences
    what_to_do: str  # full sentences
    first_step: int | None = None  # batch at which it began; None when it is about no batch

    @property
    def text(self) -> str:
        """The whole finding as one paragraph."""
        since = "" if self.first_step is None else f" Since batch {self.first_step}."
        return f"{self.title}. {self.evidence}{since} {self.what_to_do}"
