"""Glosses and class numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.corpus.vocabulary import BLANK, Vocabulary
from core.errors import CorpusError

GLOSSES = st.lists(st.text(min_size=1), min_size=1, max_size=30, unique=True)


@given(GLOSSES, st.data())
def test_decoding_undoes_encoding_and_never_gives_the_blank(
    glosses: list[str], data: st.DataObject
) -> None:
    vocabulary = Vocabulary(glosses)
    sentence = tuple(data.draw(st.lists(st.sampled_from(glosses))))
    classes = vocabulary.encode(sentence)
    assert vocabulary.decode(classes) == sentence
    assert BLANK not in classes
    assert all(0 < number < vocabulary.size for number in classes)


def test_numbers_follow_the_order_given() -> None:
    vocabulary = Vocabulary(["TREE", "HOUSE"])
    assert vocabulary.encode(["HOUSE", "TREE", "HOUSE"]) == (2, 1, 2)
    assert (vocabulary.size, len(vocabulary), vocabulary.glosses) == (3, 2, ("TREE", "HOUSE"))
    assert "TREE" in vocabulary
    assert "CAR" not in vocabulary
    assert vocabulary == Vocabulary(("TREE", "HOUSE"))
    assert vocabulary != Vocabulary(("HOUSE", "TREE"))


def test_an_unknown_gloss_is_named() -> None:
    with pytest.raises(CorpusError, match="CAR"):
        Vocabulary(["TREE"]).encode(["TREE", "CAR"])


@pytest.mark.parametrize("classes", [[0], [2], [-1]])
def test_classes_that_are_no_gloss_are_refused(classes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"1\.\.1"):
        Vocabulary(["TREE"]).decode(classes)


def test_no_glosses_and_double_glosses_are_refused() -> None:
    with pytest.raises(CorpusError, match="no glosses"):
        Vocabulary([])
    with pytest.raises(CorpusError, match="twice"):
        Vocabulary(["TREE", "TREE"])
