"""What a script may tell of itself with ``signscope.watch``, and what is kept of it."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import sys
from pathlib import Path

import platformdirs
import pytest
import torch
from torch import nn

import signscope
from signscope.details import DETAILS_FILE, DetailsReader
from signscope.paths import runs_dir
from signscope.reader import LedgerReader
from signscope.records import EventKind


def train(run: signscope.Run, updates: int = 3) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for number in range(updates):
        run.samples([f"clip-{number}", number])
        optimizer.zero_grad()
        torch.autograd.backward(net(torch.ones(2, 4)).pow(2).mean())
        nn.utils.clip_grad_norm_(net.parameters(), 0.01)
        optimizer.step()


@pytest.fixture(autouse=True)
def started_as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mine.py", "--lr", "3"])


def test_what_a_script_tells_is_kept(tmp_path: Path) -> None:
    with signscope.watch("mine", tmp_path, {"lr": 0.1, "path": Path("x")}) as run:
        train(run)
        run.log(wer=0.31, other=math.nan)
        run.note("half way")
        run.epoch(2, wer=0.25)
        train(run, 1)
    with LedgerReader(run.path / "ledger.sqlite") as reader:
        reader.verify()
        rows = reader.steps()
        events = reader.events()
    assert [row.sample_ids for row in rows] == [
        ("clip-0", "0"),
        ("clip-1", "1"),
        ("clip-2", "2"),
        ("clip-0", "0"),
    ]
    assert rows[-1].epoch > rows[0].epoch
    assert "half way" in [event.text for event in events if event.kind is EventKind.INFO]
    assert events[0].text == "Watching: mine.py --lr 3"
    assert json.loads((run.path / "script-settings.json").read_text()) == {"lr": 0.1, "path": "x"}
    with DetailsReader(run.path / DETAILS_FILE) as details:
        figures = [(metric.name, metric.value) for metric in details.metrics()]
        layers = details.layers(details.optimizers()[0])
    assert figures[0] == ("wer", 0.31)
    assert figures[1][0] == "other"
    assert math.isnan(figures[1][1])
    assert figures[2] == ("wer", 0.25)
    assert layers.names == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert layers.steps_N.tolist() == [0, 1, 2]
    total_N = (layers.norms_NL.astype(float) ** 2).sum(axis=1) ** 0.5
    assert total_N == pytest.approx([row.grad_norm_pre for row in rows[:3]], rel=1e-5)


def test_layers_cost_at_most_four_bytes_each(tmp_path: Path) -> None:
    with signscope.watch("mine", tmp_path) as run:
        train(run, 600)
    with sqlite3.connect(run.path / DETAILS_FILE) as file:
        (size,) = file.execute("SELECT sum(length(norms)) FROM layers").fetchone()
    assert size <= 4 * 4 * 600
    with DetailsReader(run.path / DETAILS_FILE) as details:
        (optimizer,) = details.optimizers()
        assert details.layers(optimizer).steps_N.tolist() == list(range(600))


def test_a_second_call_gives_the_run_that_there_is(tmp_path: Path) -> None:
    with signscope.watch("mine", tmp_path) as run:
        assert signscope.watch("better name", tmp_path) is run
    assert signscope.RunFolder(run.path).read_about().name == "better name"
    assert len(list(tmp_path.iterdir())) == 1


def test_after_the_end_nothing_is_told_and_nothing_raised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with signscope.watch("mine", tmp_path) as run:
        pass
    run.note("late")
    run.log(wer=1.0)
    run.samples([1])
    run.finish()
    assert capsys.readouterr().err == ""


def test_a_figure_that_is_no_number_is_told_and_not_raised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with signscope.watch("mine", tmp_path) as run:
        run.log(wer="much")  # type: ignore[arg-type]
    assert "could not convert" in capsys.readouterr().err


def test_an_error_within_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), signscope.watch("mine", tmp_path) as run:
        raise ValueError("mine")
    info = signscope.RunFolder(run.path).read_info()
    assert (info.state, info.error) == ("failed", "ValueError: mine")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_writes_nothing(tmp_path: Path) -> None:
    with signscope.watch("mine", tmp_path) as run:
        train(run, 2)
        child = os.fork()
        if child == 0:
            run.note("from the child")
            run.finish()
            os._exit(7)
        _, status = os.waitpid(child, 0)
        train(run, 1)
    assert os.waitstatus_to_exitcode(status) == 7
    with LedgerReader(run.path / "ledger.sqlite") as reader:
        reader.verify()
        assert len(reader.steps()) == 3
        assert "from the child" not in [event.text for event in reader.events()]


def test_runs_are_kept_where_platformdirs_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGNSCOPE_RUNS", raising=False)
    assert runs_dir() == platformdirs.user_data_path("signscope") / "runs"
