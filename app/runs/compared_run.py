"""A run as the comparison needs it: read from its folder in a thread, and followed while it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app.runs.loading import load_history
from core.analysis.catalogue import RunSummary, summarize
from core.analysis.compare import flat_settings
from core.analysis.history import History
from signscope.errors import RunFolderError
from signscope.folder import RunFolder
from signscope.reader import START, LedgerReader, News, Place


@dataclass(frozen=True)
class ComparedRun:
    """One run with its curves and settings; ``settings`` is empty where they cannot be read."""

    summary: RunSummary
    history: History
    settings: dict[str, object]
    wer: tuple[tuple[int, float], ...] = ()
    """(epoch, word error rate on the dev split as a share) of each epoch that was evaluated."""
    place: Place = START
    """How far its ledger was read."""

    @property
    def key(self) -> str:
        """What tells this run from the others."""
        return str(self.summary.path)


@dataclass(frozen=True)
class RunNews:
    """What came of one run since it was read last."""

    batches: tuple[News, ...]
    summary: RunSummary
    wer: tuple[tuple[int, float], ...]


def load_for_comparison(
    path: Path, progress: Callable[[int, int], None] | None = None
) -> ComparedRun:
    """Read a run folder; raises RunFolderError when it is none or its ledger cannot be read."""
    folder = RunFolder.open(path)
    with LedgerReader(folder.ledger_path) as reader:
        # Asked for first: what is cut while the curves are read is then asked for anew.
        generation = reader.generation()
        history = load_history(path, progress)
        wer = _wer(reader)
    try:
        settings = flat_settings(path)
    except RunFolderError:
        settings = {}  # the curves are worth more than no comparison at all
    newest = int(history.column("step")[-1]) if len(history) else -1
    return ComparedRun(summarize(path), history, settings, wer, Place(newest + 1, generation))


def read_news(path: Path, place: Place, cancelled: Callable[[], bool]) -> RunNews:
    """Read what a ledger has got since ``place``; any thread, the history is not touched.

    Raises:
        RunFolderError: The ledger is gone or damaged.
    """
    found: list[News] = []
    with LedgerReader(RunFolder(path).ledger_path) as reader:
        while not cancelled():
            news = reader.since(place)
            place = news.place
            if news.steps or news.cut:
                found.append(news)
            if not news.steps:
                break
        return RunNews(tuple(found), summarize(path), _wer(reader))


def follow(run: ComparedRun, news: RunNews) -> ComparedRun:
    """Give the run with its news; its history grows in place. The thread of the history only."""
    for each in news.batches:
        if each.cut:
            run.history.truncate_from(each.kept)
        run.history.extend(each.steps)
    place = news.batches[-1].place if news.batches else run.place
    return replace(run, summary=news.summary, wer=news.wer, place=place)


def _wer(reader: LedgerReader) -> tuple[tuple[int, float], ...]:
    latest = {
        epoch: found.errors.wer for epoch, found in reader.evaluations() if found.split == "dev"
    }
    return tuple(sorted(latest.items()))
