"""Glosses as the class numbers of the teacher's output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from core.errors import CorpusError

BLANK: Final = 0
"""Class of CTC's blank; glosses count from 1."""


class Vocabulary:
    """Numbers glosses from 1 in the given order; 0 is the blank.

    Raises:
        CorpusError: There is no gloss at all, or one comes twice.
    """

    def __init__(self, glosses: Iterable[str]) -> None:
        self.glosses: tuple[str, ...] = tuple(glosses)
        self._number_of = {gloss: number for number, gloss in enumerate(self.glosses, BLANK + 1)}
        if not self.glosses:
            raise CorpusError(
                "There are no glosses to learn",
                hint="The training samples need at least one gloss that is not the idle gloss.",
            )
        if len(self._number_of) != len(self.glosses):
            raise CorpusError("A gloss stands twice in the vocabulary", hint="Remove one of them.")

    @property
    def size(self) -> int:
        """Number of classes, the blank among them."""
        return len(self.glosses) + 1

    def encode(self, glosses: Sequence[str]) -> tuple[int, ...]:
        """Give the class of each gloss; raises CorpusError naming one that is not known."""
        try:
            return tuple(self._number_of[gloss] for gloss in glosses)
        except KeyError as error:
            raise CorpusError(
                "A gloss is not in the vocabulary",
                subject=str(error.args[0]),
                hint="The teacher knows only the glosses that it was trained on.",
            ) from None

    def decode(self, classes: Sequence[int]) -> tuple[str, ...]:
        """Give the gloss of each class; a blank or a number beyond the vocabulary is a ValueError."""
        if any(not BLANK < number < self.size for number in classes):
            raise ValueError(f"classes must lie in 1..{self.size - 1}, found {list(classes)}")
        return tuple(self.glosses[number - 1] for number in classes)

    def __contains__(self, gloss: object) -> bool:
        return gloss in self._number_of

    def __len__(self) -> int:
        return len(self.glosses)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.glosses == other.glosses

    def __hash__(self) -> int:
        return hash(self.glosses)
