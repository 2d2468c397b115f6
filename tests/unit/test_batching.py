"""Batches: a pure function of corpus, settings, seed, epoch and position; all sentences, none CTC cannot align."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import AugmentConfig, DataConfig
from core.corpus import writer
from core.corpus.batching import Batch, Split, TrainingData, needed_length
from core.corpus.demo import make_demo_corpus
from core.corpus.reader import Corpus
from core.errors import AlreadyNormalizedError, CorpusError
from core.landmarks.layout import LEFT_SHOULDER, RIGHT_SHOULDER, Float32Array
from tests.unit.made_samples import (
    clip_indices,
    make_landmarks,
    make_sample,
    write_clips,
    write_corpus,
)

SPLICED = DataConfig(
    test_signers=("S3",),
    dev_share=0.3,
    glosses_min=2,
    glosses_max=4,
    sentences_per_epoch=50,
    dev_sentences=11,
    batch_size=8,
)
AS_RECORDED = DataConfig(batch_size=4, dev_share=0.2)


def quarter(frames: int) -> int:
    return -(-frames // 4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_clips(tmp_path_factory.mktemp("corpus") / "clips")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "demo"
    make_demo_corpus(path, signers=3, glosses=6, sentences=33)
    return Corpus.open(path)


def training_data(
    corpus: Corpus,
    config: DataConfig = SPLICED,
    seed: int = 0,
    encoded_length: Callable[[int], int] = quarter,
) -> TrainingData:
    return TrainingData(corpus, config, seed=seed, encoded_length=encoded_length)


def content(batch: Batch) -> tuple[object, ...]:
    tensors = (batch.landmarks_BTKC, batch.lengths_B, batch.targets, batch.target_lengths_B)
    return (batch.sample_ids, batch.glosses, *(t.numpy().tobytes() for t in tensors))


def contents(batches: Iterable[Batch]) -> list[tuple[object, ...]]:
    return [content(batch) for batch in batches]


def test_a_batch_holds_what_it_says(clips: Corpus) -> None:
    data = training_data(clips)
    for batch in data.train_batches(1):
        size = len(batch)
        longest = int(batch.lengths_B.max())
        assert batch.landmarks_BTKC.shape == (size, longest, 75, 4)
        assert batch.landmarks_BTKC.dtype == torch.float32
        assert batch.lengths_B.dtype == batch.targets.dtype == batch.target_lengths_B.dtype
        assert batch.lengths_B.dtype == torch.int64
        assert batch.frames == int(batch.lengths_B.sum())
        assert batch.target_lengths_B.tolist() == [len(glosses) for glosses in batch.glosses]
        flat = [gloss for glosses in batch.glosses for gloss in glosses]
        assert data.vocabulary.decode(batch.targets.tolist()) == tuple(flat)
        for row_TKC, length in zip(batch.landmarks_BTKC, batch.lengths_B.tolist(), strict=True):
            assert torch.isnan(row_TKC[length:]).all()
            assert torch.isfinite(row_TKC[:length, LEFT_SHOULDER]).all()


@pytest.mark.parametrize("name", ["clips", "sentences"])
def test_an_epoch_has_all_its_sentences_once(name: str, request: pytest.FixtureRequest) -> None:
    data = training_data(request.getfixturevalue(name), SPLICED if name == "clips" else AS_RECORDED)
    batches = list(data.train_batches(2))
    ids = [sample_id for batch in batches for sample_id in batch.sample_ids]
    assert len(batches) == data.batches_per_epoch
    assert len(ids) == len(set(ids)) == data.sentences_per_epoch
    sizes = sorted(len(batch) for batch in batches)
    full = data.config.batch_size
    assert sizes == sorted(
        [full] * (len(ids) // full) + ([len(ids) % full] if len(ids) % full else [])
    )


@pytest.mark.parametrize("name", ["clips", "sentences"])
def test_a_resumed_epoch_goes_on_with_the_same_bytes(
    name: str, request: pytest.FixtureRequest
) -> None:
    corpus = request.getfixturevalue(name)
    config = SPLICED if name == "clips" else AS_RECORDED
    whole = contents(training_data(corpus, config).train_batches(3))
    for start in (0, 1, len(whole) - 1, len(whole)):
        other = training_data(corpus, config)
        list(other.train_batches(1))  # what was done before must not matter
        assert contents(other.train_batches(3, start)) == whole[start:]


def test_epochs_and_seeds_differ(clips: Corpus, sentences: Corpus) -> None:
    for corpus, config in ((clips, SPLICED), (sentences, AS_RECORDED)):
        data = training_data(corpus, config)
        first = contents(data.train_batches(1))
        assert first != contents(data.train_batches(2))
        assert first != contents(training_data(corpus, config, seed=1).train_batches(1))


def test_augmentation_differs_by_epoch_but_not_the_sample(sentences: Corpus) -> None:
    data = training_data(sentences, AS_RECORDED)

    def frames(epoch: int) -> dict[str, int]:
        return {
            sample_id: int(length)
            for batch in data.train_batches(epoch)
            for sample_id, length in zip(batch.sample_ids, batch.lengths_B, strict=True)
        }

    first, second = frames(1), frames(2)
    assert first.keys() == second.keys()
    assert sum(first[key] != second[key] for key in first) > len(first) / 2


def test_batches_hold_sentences_of_like_length(sentences: Corpus) -> None:
    still = AugmentConfig(tempo=0, frame_dropout=0)
    data = training_data(sentences, AS_RECORDED.model_copy(update={"augment": still}))
    batches = list(data.train_batches(1))
    padded = sum(batch.landmarks_BTKC.shape[0] * batch.landmarks_BTKC.shape[1] for batch in batches)
    assert sum(batch.frames for batch in batches) / padded > 0.9
    longest = [int(batch.lengths_B.max()) for batch in batches]
    assert longest != sorted(longest)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_evaluation_is_fixed_plain_and_from_its_own_clips(clips: Corpus, split: Split) -> None:
    data = training_data(clips)
    batches = list(data.eval_batches(split))
    assert contents(batches) == contents(data.eval_batches(split))
    assert sum(len(batch) for batch in batches) == 11
    lengths = [int(length) for batch in batches for length in batch.lengths_B]
    assert lengths == sorted(lengths)
    own = set(data.splits.dev if split == "dev" else data.splits.test)
    for batch in batches:
        for row, sample_id in enumerate(batch.sample_ids):
            assert sample_id.startswith(split)
            assert set(clip_indices(sample_id)) <= own
            first = clips.landmarks_of(clip_indices(sample_id)[0])
            assert batch.landmarks_BTKC[row, : len(first)].numpy().tobytes() == first.tobytes()


def test_training_never_sees_a_held_out_clip(clips: Corpus) -> None:
    data = training_data(clips)
    train = set(data.splits.train)
    for batch in data.train_batches(1):
        for sample_id in batch.sample_ids:
            assert set(clip_indices(sample_id)) <= train
            assert {clips.signers_of[i] for i in clip_indices(sample_id)} < {"S1", "S2", "S3"}
            names = [clips.ids[i] for i in clip_indices(sample_id)]
            assert not any(name.startswith("S3") for name in names)


def test_the_idle_gloss_is_no_target(clips: Corpus) -> None:
    data = training_data(clips)
    assert data.vocabulary.glosses == ("A", "B", "C")


def test_as_recorded_ids_are_those_of_the_corpus(sentences: Corpus) -> None:
    data = training_data(sentences, AS_RECORDED)
    assert not data.spliced
    seen = {sample_id for batch in data.train_batches(1) for sample_id in batch.sample_ids}
    assert seen == {sentences.ids[i] for i in data.splits.train}
    assert list(data.eval_batches("test")) == []
    assert sum(len(batch) for batch in data.eval_batches("dev")) == len(data.splits.dev)


def test_describe_counts_what_is_used(clips: Corpus) -> None:
    said = training_data(clips).describe()
    assert "3 glosses" in said
    assert "test 20 of S3" in said
    assert "\n" not in said


# --- what CTC cannot align ---


def test_needed_length_counts_repeats() -> None:
    assert needed_length(()) == 0
    assert needed_length(("A", "B", "A")) == 3
    assert needed_length(("A", "A", "A", "B")) == 6


def test_samples_that_cannot_be_aligned_are_listed_and_left_out(tmp_path: Path) -> None:
    glosses = ("A", "A", "B")  # needs 4 encoder steps, so 13 frames
    samples = [make_sample(f"{frames}", glosses, frames=frames) for frames in range(8, 40)]
    data = training_data(Corpus.open(write_corpus(tmp_path / "c", samples)), AS_RECORDED)
    assert sorted(fault.frames for fault in data.unalignable) == [8, 9, 10, 11, 12]
    fault = next(fault for fault in data.unalignable if fault.frames == 12)
    assert (fault.id, fault.encoded, fault.needed) == ("12", 3, 4)
    assert fault.reason == "3 glosses with 1 repeats need 4 encoder steps, its 12 frames become 3"
    assert "5 left out because CTC cannot align them" in data.describe()
    used = {i for batch in data.train_batches(1) for i in batch.sample_ids}
    used |= {i for batch in data.eval_batches("dev") for i in batch.sample_ids}
    assert used == {str(frames) for frames in range(13, 40)}


@pytest.mark.parametrize("seed", range(5))
def test_no_augmentation_makes_a_sentence_unalignable(tmp_path: Path, seed: int) -> None:
    """Sentences that only just fit, and the strongest augmentation allowed."""
    strong = AugmentConfig(tempo=0.9, frame_dropout=0.9)
    samples = [make_sample(str(n), ("A", "B", "B", "C"), frames=17 + n % 2) for n in range(20)]
    recorded = Corpus.open(write_corpus(tmp_path / "c", samples))
    spliced = write_clips(tmp_path / "s", glosses=("A", "B"), frames=8)
    for corpus, config in ((recorded, AS_RECORDED), (spliced, SPLICED)):
        data = training_data(corpus, config.model_copy(update={"augment": strong}), seed)
        assert not data.unalignable
        for epoch in (1, 2):
            for batch in data.train_batches(epoch):
                for glosses, length in zip(batch.glosses, batch.lengths_B.tolist(), strict=True):
                    assert quarter(length) >= needed_length(glosses)


def test_clips_too_short_for_any_sentence_are_listed(tmp_path: Path) -> None:
    clips = [make_sample(f"long{n}", (g,), frames=12) for n, g in enumerate("ABABAB")]
    short = [make_sample("short", ("A",), frames=5)]
    corpus = Corpus.open(write_corpus(tmp_path / "c", clips + short))
    config = DataConfig(dev_share=0.3, glosses_min=1, glosses_max=6, transition_frames=0)
    data = training_data(corpus, config)
    # Three such clips: 15 frames become 4 encoder steps, and A A A would need 5.
    (fault,) = data.unalignable
    assert (fault.id, fault.frames, fault.encoded, fault.needed) == ("short", 5, 4, 5)
    index = corpus.ids.index("short")
    for batch in data.train_batches(1):
        assert all(index not in clip_indices(sample_id) for sample_id in batch.sample_ids)


# --- mistakes and odd corpora ---


def test_clips_too_short_for_the_strides_are_said_to_be_so(tmp_path: Path) -> None:
    short = write_clips(tmp_path / "short", frames=3)
    with pytest.raises(
        CorpusError, match=r"long enough for the encoder: \d+ are too short"
    ) as caught:
        training_data(short, DataConfig())
    assert "encoder steps" in caught.value.hint
    idle = Corpus.open(
        write_corpus(
            tmp_path / "idle",
            [
                make_sample("sign", ("A",), frames=2),
                *(make_sample(f"{n}", ("-",)) for n in range(9)),
            ],
        )
    )
    with pytest.raises(CorpusError, match=r"long enough for the encoder: 1 are too short"):
        training_data(idle, DataConfig(glosses_max=6))


def test_a_sample_of_absurd_numbers_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers refuse it; those of 0.1.0 did not."""
    monkeypatch.setattr(writer, "LARGEST_VALUE", np.inf)
    absurd_TKC = make_landmarks(30)
    absurd_TKC[3, 40, 0] = 1e30
    samples = [make_sample(f"{n}", frames=30, seed=n) for n in range(40)]
    samples.append(make_sample("absurd", landmarks_TKC=absurd_TKC))
    data = training_data(Corpus.open(write_corpus(tmp_path / "c", samples)), DataConfig())
    assert [left.id for left in data.left_out] == ["absurd"]
    (warning,) = data.warnings
    assert "1 sample(s) left out: landmarks beyond 100" in warning
    for batch in data.train_batches(1):
        assert not (batch.landmarks_BTKC.abs() > 100).any()


def test_without_second_takes_there_is_no_dev_split_and_it_is_said(tmp_path: Path) -> None:
    samples = [make_sample(gloss, (gloss,), frames=30) for gloss in ("A", "B", "-")]
    data = training_data(Corpus.open(write_corpus(tmp_path / "c", samples)), DataConfig())
    assert not data.has_dev
    assert list(data.eval_batches("dev")) == []
    assert "no dev split" in data.warnings[0]
    assert list(data.train_batches(1))


def test_samples_without_a_sign_or_with_untrained_glosses_are_listed(tmp_path: Path) -> None:
    samples = [make_sample(f"t{n}", ("A", "B"), "S1", frames=30) for n in range(6)]
    samples += [
        make_sample("idle", ("-", "-"), "S3", frames=30),
        make_sample("dev", ("A", "A"), "S3", frames=30),
        make_sample("known", ("B", "A"), "S2", frames=30),
        make_sample("new", ("A", "NEW"), "S2", frames=30),
    ]
    config = DataConfig(test_signers=("S2",), dev_signers=("S3",))
    data = training_data(Corpus.open(write_corpus(tmp_path / "c", samples)), config)
    assert {(left.id, left.reason) for left in data.left_out} == {
        ("idle", "no sign in it"),
        ("new", "gloss NEW does not occur in training"),
    }
    assert "gloss NEW does not occur in training" in data.describe()
    assert [b.sample_ids for b in data.eval_batches("test")] == [("known",)]


def test_corpora_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    idle = write_clips(tmp_path / "idle", glosses=("-",))
    with pytest.raises(CorpusError, match="no glosses to learn"):
        training_data(idle)
    several = [make_sample(str(n), ("A", "B"), frames=40) for n in range(9)]
    corpus = Corpus.open(write_corpus(tmp_path / "several", several))
    with pytest.raises(CorpusError, match="Only clips of one gloss can be spliced"):
        training_data(corpus, DataConfig(sentences="splice"))
    with pytest.raises(CorpusError, match="long enough for the encoder: 7 are too short"):
        training_data(corpus, AS_RECORDED, encoded_length=lambda frames: 1)
    unknown = [*several, make_sample("z", ("Z",), "S2", frames=40)]
    corpus = Corpus.open(write_corpus(tmp_path / "unknown", unknown))
    with pytest.raises(CorpusError, match="test split has no sample that can be used"):
        training_data(corpus, DataConfig(test_signers=("S2",)))


def test_normalised_landmarks_are_refused(tmp_path: Path) -> None:
    samples = [
        make_sample(str(n), landmarks_TKC=_as_if_normalised(make_landmarks(10, n)))
        for n in range(4)
    ]
    with pytest.raises(AlreadyNormalizedError, match="normalised already"):
        training_data(Corpus.open(write_corpus(tmp_path / "c", samples)))


def _as_if_normalised(landmarks_TKC: Float32Array) -> Float32Array:
    pair = landmarks_TKC[:, [LEFT_SHOULDER, RIGHT_SHOULDER], :2]
    middle_TC = pair.mean(axis=1)
    width_T = np.linalg.norm(pair[:, 0] - pair[:, 1], axis=-1)
    landmarks_TKC[..., :2] -= middle_TC[:, None]
    landmarks_TKC[..., :3] /= width_T[:, None, None]
    return landmarks_TKC


def test_splicing_is_decided_by_the_clips(clips: Corpus, sentences: Corpus) -> None:
    assert training_data(clips).spliced
    as_they_are = training_data(clips, SPLICED.model_copy(update={"sentences": "clips"}))
    assert not as_they_are.spliced
    assert all(
        len(glosses) == 1 for batch in as_they_are.train_batches(1) for glosses in batch.glosses
    )
    pairs = [
        a == b
        for plan in training_data(clips).train_batches(1)
        for g in plan.glosses
        for a, b in pairwise(g)
    ]
    assert any(pairs)  # repeats happen, so the guard on lengths is needed
    assert not training_data(sentences, AS_RECORDED).spliced
