import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.word_errors import word_errors
from signscope.records import WordErrors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "edits"),
    [
        (["A", "B", "C"], ["A", "B", "C"], (0, 0, 0)),
        (["A", "B", "C"], ["A", "X", "C"], (1, 0, 0)),
        (["A", "B", "C"], ["A", "C"], (0, 1, 0)),
        (["A", "B", "C"], ["A", "B", "X", "C"], (0, 0, 1)),
        (["A", "B", "C"], [], (0, 3, 0)),
        ([], ["A", "B"], (0, 0, 2)),
        ([], [], (0, 0, 0)),
        (["A", "B", "C", "D", "E"], ["X", "B", "D", "E", "F"], (1, 1, 1)),
        (["good morning", "you"], ["good", "morning", "you"], (1, 0, 1)),
        (["good morning"], ["good morning"], (0, 0, 0)),
        (["", " "], ["", " "], (0, 0, 0)),
        (["a"], ["A"], (1, 0, 0)),
    ],
)
def test_hand_computed_cases(
    reference: list[str], hypothesis: list[str], edits: tuple[int, int, int]
) -> None:
    assert word_errors([reference], [hypothesis]) == WordErrors(
        *edits, len(reference), len(hypothesis)
    )


def test_sentences_are_summed_and_wer_is_a_share() -> None:
    found = word_errors(
        [["A", "B"], [], ["C"], ["D", "E", "F", "G", "H"]],
        [["A", "X"], ["Y"], [], ["D", "E", "F", "G", "H"]],
    )
    assert found == WordErrors(1, 1, 1, 8, 8)
    assert found.wer == 3 / 8


def test_without_references_there_is_no_rate() -> None:
    assert math.isnan(word_errors([], []).wer)
    assert math.isnan(word_errors([[]], [["A"]]).wer)


def test_unequal_numbers_of_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="1 references but 2"):
        word_errors([["A"]], [["A"], ["B"]])


def edit_distance(left: list[str], right: list[str]) -> int:
    """Levenshtein distance by its definition, row by row."""
    row = list(range(len(right) + 1))
    for number, item in enumerate(left, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(right, 1):
            before, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, before + (item != other)),
            )
    return row[-1]


sentences = st.lists(st.sampled_from(["A", "B", "a b", "", "\n"]), max_size=7)


@given(st.lists(st.tuples(sentences, sentences), max_size=5))
def test_the_sum_of_edits_is_the_edit_distance(pairs: list[tuple[list[str], list[str]]]) -> None:
    found = word_errors([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    edits = found.substitutions + found.deletions + found.insertions
    assert edits == sum(edit_distance(*pair) for pair in pairs)
    assert found.reference_glosses - found.deletions == found.hypothesis_glosses - found.insertions
