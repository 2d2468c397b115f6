"""Splits by signer: nothing shared, nothing lost, mistakes named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from core.config import DataConfig
from core.corpus.reader import Corpus
from core.corpus.splits import make_splits
from core.errors import CorpusError
from tests.unit.made_samples import make_sample, write_clips, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_clips(tmp_path / "clips", signers=4, clips=10)


def signers_in(corpus: Corpus, indices: tuple[int, ...]) -> set[str]:
    return {corpus.signers_of[index] for index in indices}


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(),
        DataConfig(test_signers=("S2",)),
        DataConfig(test_signers=("S2", "S3"), dev_signers=("S1",)),
        DataConfig(dev_share=0.5),
    ],
)
def test_every_sample_is_in_exactly_one_split(corpus: Corpus, config: DataConfig) -> None:
    splits = make_splits(corpus, config, seed=3)
    together = splits.train + splits.dev + splits.test
    assert sorted(together) == list(range(len(corpus)))
    for indices in (splits.train, splits.dev, splits.test):
        assert list(indices) == sorted(indices)


def test_held_out_signers_are_in_their_split_alone(corpus: Corpus) -> None:
    config = DataConfig(test_signers=("S2",), dev_signers=("S4",))
    splits = make_splits(corpus, config, seed=0)
    assert signers_in(corpus, splits.test) == {"S2"}
    assert signers_in(corpus, splits.dev) == {"S4"}
    assert signers_in(corpus, splits.train) == {"S1", "S3"}


def test_the_dev_share_is_taken_from_each_signer_and_gloss(corpus: Corpus) -> None:
    splits = make_splits(corpus, DataConfig(test_signers=("S1",), dev_share=0.2), seed=0)
    counts = Counter((corpus.signers_of[i], corpus.glosses_of[i]) for i in splits.dev)
    assert set(counts.values()) == {2}
    assert len(counts) == 3 * 4


def test_the_seed_decides(corpus: Corpus) -> None:
    first, same, other = (make_splits(corpus, DataConfig(), seed) for seed in (1, 1, 2))
    assert first == same
    assert first.dev != other.dev


def test_a_gloss_with_a_single_clip_stays_in_training(tmp_path: Path) -> None:
    samples = [make_sample(f"common{n}", ("COMMON",)) for n in range(9)]
    corpus = Corpus.open(write_corpus(tmp_path / "c", [*samples, make_sample("rare", ("RARE",))]))
    for seed in range(5):
        splits = make_splits(corpus, DataConfig(dev_share=0.9), seed)
        assert corpus.ids.index("rare") in splits.train
        assert len(splits.dev) == 8


def test_sentences_are_shared_out_whatever_their_glosses(tmp_path: Path) -> None:
    samples = [make_sample(f"s{n}", ("A", f"G{n}")) for n in range(10)]
    corpus = Corpus.open(write_corpus(tmp_path / "c", samples))
    assert len(make_splits(corpus, DataConfig(dev_share=0.3), 0).dev) == 3
    # A share that rounds to nothing still gives a dev split.
    assert len(make_splits(corpus, DataConfig(dev_share=0.01), 0).dev) == 1


def test_unknown_signers_are_named_with_the_known_ones(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match=r"No such signer in the corpus: S7, S9") as caught:
        make_splits(corpus, DataConfig(test_signers=("S9",), dev_signers=("S7",)), 0)
    assert "S1, S2, S3, S4" in caught.value.hint


def test_holding_out_everyone_is_refused(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match="none is left to train on"):
        make_splits(corpus, DataConfig(test_signers=("S1", "S2"), dev_signers=("S3", "S4")), 0)
    alone = Corpus.open(write_corpus(tmp_path / "c", [make_sample("a"), make_sample("b")]))
    with pytest.raises(CorpusError, match="none is left to train on"):
        make_splits(alone, DataConfig(test_signers=("S1",)), 0)


def test_a_small_corpus_has_a_usable_dev_split(tmp_path: Path) -> None:
    """60 clips: 10 labels, one of them idle, of 3 signers, twice each."""
    glosses = ("-", *"ABCDEFGHI")
    corpus = write_clips(tmp_path / "c", signers=3, glosses=glosses, clips=2)
    splits = make_splits(corpus, DataConfig(), seed=0)
    assert len(splits.dev) == 6
    assert signers_in(corpus, splits.dev) == {"S1", "S2", "S3"}
    dev = {corpus.glosses_of[i][0] for i in splits.dev}
    assert "-" not in dev
    assert len(dev) > 1
    for signer in corpus.signers:
        trained = {corpus.glosses_of[i][0] for i in splits.train if corpus.signers_of[i] == signer}
        assert trained == set(glosses)


def test_idle_clips_alone_make_no_dev_split(tmp_path: Path) -> None:
    samples = [make_sample(f"idle{n}", ("-",)) for n in range(20)]
    samples += [make_sample(f"A{n}", ("A",), seed=n) for n in range(2)]
    corpus = Corpus.open(write_corpus(tmp_path / "c", samples))
    (dev,) = {corpus.glosses_of[i] for i in make_splits(corpus, DataConfig(), 0).dev}
    assert dev == ("A",)


def test_splits_of_other_corpora_are_those_of_earlier_versions(tmp_path: Path) -> None:
    """Taken from 0.1.0: a share of each gloss, and one sample of a signer whose glosses have no share."""
    samples = [make_sample(f"S1/A/{n}", ("A",), "S1", seed=n) for n in range(10)]
    samples += [make_sample(f"S1/-/{n}", ("-",), "S1", seed=n) for n in range(10)]
    samples += [make_sample(f"S2/{g}/{n}", (g,), "S2", seed=n) for g in "BC" for n in range(2)]
    corpus = Corpus.open(write_corpus(tmp_path / "c", samples))
    found = {seed: make_splits(corpus, DataConfig(), seed).dev for seed in range(4)}
    assert found == {0: (3, 10, 20), 1: (3, 11, 21), 2: (4, 19, 20), 3: (5, 12, 20)}


def test_without_second_takes_the_dev_split_is_empty(tmp_path: Path) -> None:
    alone = Corpus.open(write_corpus(tmp_path / "c", [make_sample("a")]))
    assert make_splits(alone, DataConfig(), 0).dev == ()
