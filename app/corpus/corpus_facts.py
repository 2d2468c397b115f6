"""What a person wants to know of a corpus at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.config import DEMO_CORPUS
from core.errors import CorpusError


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """Size and nature of a corpus."""

    name: str
    text: str
    synthetic: bool


def corpus_facts(corpus: str, *, raise_errors: bool = False) -> CorpusFacts | None:
    """Tell about the corpus of a config: a folder, or ``demo``.

    Gives None for a demo corpus that was not made yet, and for a corpus that cannot be read unless
    ``raise_errors``: then CorpusError says why. Reads the small columns only, a few milliseconds once
    pyarrow is imported.
    """
    from core.corpus.demo import demo_corpus_path
    from core.corpus.reader import Corpus

    demo = corpus == DEMO_CORPUS
    path = demo_corpus_path() if demo else Path(corpus)
    if demo and not path.is_dir():
        return None
    try:
        with Corpus.open(path) as opened:
            glosses = opened.glosses
            text = (
                f"{len(opened.signers)} signers, {len(glosses)} glosses, "
                f"{len(opened)} {'clips' if all(len(g) == 1 for g in opened.glosses_of) else 'sentences'}"
            )
            return CorpusFacts(opened.name, text, opened.synthetic)
    except CorpusError:
        if raise_errors:
            raise
        return None


def is_synthetic(corpus: str) -> bool:
    """Whether the corpus of a config was made by a procedure; a corpus that cannot be read is not."""
    facts = corpus_facts(corpus)
    return corpus == DEMO_CORPUS or (facts is not None and facts.synthetic)
