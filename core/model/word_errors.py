"""Word error rate over glosses."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer

from signscope.records import WordErrors

_FIRST_TOKEN = 0xF0000  # a private-use plane: one character for each gloss, none of it white space


def word_errors(
    references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]
) -> WordErrors:
    """Count the fewest edits that turn each reference into its hypothesis, summed over sentences.

    A gloss is compared as a whole, whatever characters it holds (spaces, capitals, punctuation). An
    empty reference makes every hypothesis gloss an insertion; an empty hypothesis makes every
    reference gloss a deletion. Where several alignments are equally short, how the edits divide into
    substitutions, deletions and insertions is jiwer's choice; their sum is not.

    Args:
        references: One sequence of glosses a sentence.
        hypotheses: The decoded glosses, in the same order.

    Raises:
        ValueError: The two do not have the same number of sentences.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    substitutions = deletions = insertions = 0
    spoken: list[str] = []
    heard: list[str] = []
    tokens: dict[str, str] = {}
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        # jiwer splits at spaces and refuses an empty reference, so both are settled here.
        if not reference:
            insertions += len(hypothesis)
        elif not hypothesis:
            deletions += len(reference)
        else:
            spoken.append(_as_words(reference, tokens))
            heard.append(_as_words(hypothesis, tokens))
    if spoken:
        found = jiwer.process_words(spoken, heard)
        substitutions += found.substitutions
        deletions += found.deletions
        insertions += found.insertions
    return WordErrors(
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        reference_glosses=sum(map(len, references)),
        hypothesis_glosses=sum(map(len, hypotheses)),
    )


def _as_words(glosses: Sequence[str], tokens: dict[str, str]) -> str:
    """Join ``glosses`` as words of one character, a new one for each gloss not yet in ``tokens``."""
    return " ".join(tokens.setdefault(gloss, chr(_FIRST_TOKEN + len(tokens))) for gloss in glosses)
