"""Which samples are trained on, which measure progress, which are held out to the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
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
    that rare glosses stay in training. It is empty where no signer has two samples of a gloss.

    Raises:
        CorpusError: A named signer is not in the corpus, or none is left for training.
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
        groups = [
            _shuffled_groups(training[signer], corpus.glosses_of, rng)
            for signer in sorted(training)
        ]
        dev = sorted(_dev_share(groups, config, rng))
    taken = set(dev)
    train = sorted(i for indices in training.values() for i in indices if i not in taken)
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


_Groups = dict[tuple[str, ...], list[int]]
"""One signer's samples by gloss, in random order; sentences of several glosses are one group, named ()."""


def _shuffled_groups(
    indices: Sequence[int], glosses_of: Sequence[tuple[str, ...]], rng: np.random.Generator
) -> _Groups:
    groups: _Groups = defaultdict(list)
    for index in indices:
        glosses = glosses_of[index]
        groups[glosses if len(glosses) == 1 else ()].append(index)
    return {key: [int(i) for i in rng.permutation(groups[key])] for key in sorted(groups)}


def _dev_share(
    signers: Sequence[_Groups], config: DataConfig, rng: np.random.Generator
) -> Iterator[int]:
    """Draw about ``dev_share`` of each signer's samples, at least one, never the last of a group."""
    counts = [
        {
            key: min(round(len(group) * config.dev_share), len(group) - 1)
            for key, group in groups.items()
        }
        for groups in signers
    ]
    small = not any(
        count for of in counts for key, count in of.items() if key != (config.idle_gloss,)
    )
    for groups, count_of in zip(signers, counts, strict=True):
        if small:
            yield from _share_of_all(groups, config, rng)
        elif any(count_of.values()):
            yield from (i for key, group in groups.items() for i in group[: count_of[key]])
        else:
            yield from [i for group in groups.values() for i in group[:-1]][:1]


def _share_of_all(groups: _Groups, config: DataConfig, rng: np.random.Generator) -> list[int]:
    """Draw from all signs together: each has too few samples for a share of its own."""
    spare = [i for key, group in groups.items() if key != (config.idle_gloss,) for i in group[:-1]]
    wanted = max(1, round(sum(map(len, groups.values())) * config.dev_share))
    return [int(i) for i in rng.permutation(spare)[:wanted]]
