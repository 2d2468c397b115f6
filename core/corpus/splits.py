"""Which samples are trained on, which measure progress, which are held out to the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.config import DataConfig
from core.corpus.reader import Corpus
from core.errors import CorpusError

_SPLIT_STREAM = 0x5B117  # keeps this use of the seed apart from all others


@dataclass(frozen=True, slots=True)
class Splits:
    """Indices into the corpus, each tuple rising, no index in two of them."""

    train: tuple[int, ...]
    dev: tuple[int, ...]
    test: tuple[int, ...]


def make_splits(corpus: Corpus, config: DataConfig, seed: int) -> Splits:
    """Divide a corpus by signer; the same corpus, settings and seed give the same splits.

    All samples of ``test_signers`` are the test split, all of ``dev_signers`` the dev split. Where no
    dev signer is named, ``dev_share`` of each training signer's samples is, taken gloss by gloss so
    that rare glosses stay in training.

    Raises:
        CorpusError: A named signer is not in the corpus, no signer or no sample is left for training,
            or the dev split would be empty.
    """
    _check_signers(corpus, config)
    by_signer: dict[str, list[int]] = defaultdict(list)
    for index, signer in enumerate(corpus.signers_of):
        by_signer[signer].append(index)
    held_out = set(config.test_signers) | set(config.dev_signers)
    training = {signer: by_signer[signer] for signer in by_signer if signer not in held_out}
    test = _all_of(by_signer, config.test_signers)
    if config.dev_signers:
        dev = _all_of(by_signer, config.dev_signers)
    else:
        rng = np.random.default_rng(np.random.SeedSequence([seed, _SPLIT_STREAM]))
        dev = sorted(
            index
            for signer in sorted(training)
            for index in _dev_share(training[signer], corpus.glosses_of, config.dev_share, rng)
        )
    taken = set(dev)
    train = sorted(i for indices in training.values() for i in indices if i not in taken)
    if not dev:
        raise CorpusError(
            f"No sample is left for the dev split: each training signer has a single sample, or "
            f"dev_share {config.dev_share} is too small",
            subject=str(corpus.path),
            hint="Name dev signers, or use a corpus with more samples.",
        )
    return Splits(tuple(train), tuple(dev), tuple(test))


def _check_signers(corpus: Corpus, config: DataConfig) -> None:
    known = corpus.signers
    unknown = sorted((set(config.test_signers) | set(config.dev_signers)) - set(known))
    if unknown:
        raise CorpusError(
            f"No such signer in the corpus: {', '.join(unknown)}",
            subject=str(corpus.path),
            hint=f"The corpus has the signers {', '.join(known) or '(none)'}.",
        )
    if not known:
        raise CorpusError(
            "The corpus has no samples",
            subject=str(corpus.path),
            hint="Import or record some first.",
        )
    if set(known) <= set(config.test_signers) | set(config.dev_signers):
        raise CorpusError(
            "All signers are held out, none is left to train on",
            subject=str(corpus.path),
            hint=f"The corpus has the signers {', '.join(known)}; leave at least one of them out of "
            "test_signers and dev_signers.",
        )


def _all_of(by_signer: dict[str, list[int]], signers: Iterable[str]) -> list[int]:
    return sorted(index for signer in set(signers) for index in by_signer[signer])


def _dev_share(
    indices: Sequence[int],
    glosses_of: Sequence[tuple[str, ...]],
    share: float,
    rng: np.random.Generator,
) -> list[int]:
    """Draw about ``share`` of one signer's samples, at least one, never the last of a single-gloss group.

    Sentences of several glosses form one group.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index in indices:
        glosses = glosses_of[index]
        groups[glosses if len(glosses) == 1 else ()].append(index)
    drawn: list[int] = []
    spare: list[int] = []
    for key in sorted(groups):
        group = [int(i) for i in rng.permutation(groups[key])]
        count = min(round(len(group) * share), len(group) - 1)
        drawn += group[:count]
        spare += group[count:-1]
    return drawn or spare[:1]
