from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config import AugmentConfig
from core.corpus.reader import Corpus
from signscope.errors import SignScopeError
from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from tests.e2e.conftest import Start
from tests.e2e.test_train import run_folder
from tests.unit.made_samples import write_clips

Program = Callable[..., tuple[int, str, str]]


def test_demo_makes_a_corpus(program: Program, tmp_path: Path) -> None:
    status, out, err = program("demo", "--out", tmp_path / "demo")
    assert status == 0, err
    with Corpus.open(tmp_path / "demo") as corpus:
        assert corpus.synthetic
        assert len(corpus.signers) >= 8
        assert len(corpus.glosses) >= 20
        assert f"{len(corpus)} synthetic sentences of {len(corpus.signers)} signers" in out


QUICK = [
    part
    for setting in (
        *("data.sentences_per_epoch=16", "data.dev_sentences=4", "optim.epochs=2", "threads=1"),
        *("model.part_dim=8", "model.width=16", "model.layers=1"),
    )
    for part in ("--set", setting)
]


def test_a_corpus_truncated_while_training_ends_the_run_and_not_the_process(
    start: Start, tmp_path: Path
) -> None:
    corpus, runs = tmp_path / "corpus", tmp_path / "runs"
    glosses = tuple("ABCDEFGH")
    write_clips(corpus, glosses=glosses, clips=10, frames=40).close()
    process = start(
        *("train", "--corpus", corpus, "--out", runs, *QUICK, "--set", "optim.epochs=1000")
    )
    (ledger_path,) = wait_for(lambda: list(runs.glob("*/ledger.sqlite")), process)
    wait_for(lambda: steps_in(ledger_path), process)
    (shard,) = corpus.glob("shard-*")
    os.truncate(shard, shard.stat().st_size // 2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, (process.returncode, err)
    assert f"A file of the corpus has {shard.stat().st_size} bytes, expected" in err
    assert str(shard) in err
    assert "Traceback" not in err
    info = json.loads((ledger_path.parent / "run.json").read_text(encoding="utf-8"))
    assert info["state"] == "failed"
    assert "A file of the corpus has" in info["error"]


def wait_for(found: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Wait until something is found while the process is at work."""
    until = time.monotonic() + 120
    while not (value := found()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    return value


def steps_in(path: Path) -> int:
    try:
        with LedgerReader(path) as ledger:
            return ledger.step_count()
    except SignScopeError:  # it is being made
        return 0


def test_a_small_corpus_trains_with_the_default_settings(program: Program, tmp_path: Path) -> None:
    """10 labels, 3 signers, 2 takes each; only the size of model and run is smaller than by default."""
    glosses = ("-", *"ABCDEFGHI")
    write_clips(tmp_path / "corpus", glosses=glosses, clips=2, frames=30).close()
    status, out, err = program(
        *("train", "--corpus", tmp_path / "corpus", "--out", tmp_path / "runs", *QUICK)
    )
    assert status == 0, err
    with LedgerReader(run_folder(out) / "ledger.sqlite") as ledger:
        measured = [epoch.dev.sentences for epoch in ledger.epochs() if epoch.dev is not None]
    assert measured == [4, 4]


def test_a_corpus_without_second_takes_trains_without_a_dev_split_and_says_so(
    program: Program, tmp_path: Path
) -> None:
    write_clips(tmp_path / "corpus", glosses=tuple("ABCD"), clips=1, frames=30).close()
    held_out = ("--set", 'data.test_signers=["S3"]')
    status, out, err = program(
        *("train", "--corpus", tmp_path / "corpus", "--out", tmp_path / "runs", *QUICK, *held_out)
    )
    assert status == 0, err
    assert "There is no dev split" in out
    assert "the last weights, of epoch 2" in out
    run = run_folder(out)
    with LedgerReader(run / "ledger.sqlite") as ledger:
        assert [epoch.dev for epoch in ledger.epochs()] == [None, None]
        assert broken_invariants(ledger) == []
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (info["state"], info["best_wer"]) == ("finished", None)
    more = ("--set", "optim.epochs=3", "--accept-changes")
    status, _, err = program("train", "--resume", run, *more)
    assert status == 0, err
    for name in ("report.html", "steps.csv", "board"):
        status, _, err = program("export", run, "--to", tmp_path / name)
        assert status == 0, err


@pytest.mark.real_data
def test_all_real_clips_import_and_train(
    program: Program, real_data_dir: Path, tmp_path: Path
) -> None:
    recording = tmp_path / "MP_Data"
    subprocess.run(
        [
            *(sys.executable, str(real_data_dir / "unpack_mp_data.py")),
            *(str(real_data_dir / "traduttore-asl" / "landmarks.npz"), str(recording)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    corpus = tmp_path / "asl"
    status, out, err = program(
        *("import", "mp-data", recording, "--out", corpus),
        *("--signers", "S1=0-29,S2=30-59,S3=60-89"),
    )
    assert status == 0, err
    assert out.startswith("900 clips imported")
    # Small and without augmentation: this shows that the way works, not how well signs are recognised.
    settings = (
        'data.test_signers=["S3"]',
        "data.glosses_min=1",
        "data.glosses_max=2",
        "data.idle_chance=0",
        "data.sentences_per_epoch=160",
        "data.dev_sentences=40",
        "data.batch_size=8",
        *(f"data.augment.{name}=0" for name in AugmentConfig.model_fields),
        "model.width=96",
        "model.part_dim=32",
        "model.dropout=0",
        "optim.epochs=12",
        "optim.lr=4e-3",
        "threads=1",
    )
    status, out, err = program(
        *("train", "--corpus", corpus, "--out", tmp_path / "runs"),
        *(part for setting in settings for part in ("--set", setting)),
    )
    assert status == 0, err
    run = run_folder(out)
    with LedgerReader(run / "ledger.sqlite") as ledger:
        epochs = ledger.epochs()
        held_out = [
            evaluation for _, evaluation in ledger.evaluations() if evaluation.split == "test"
        ]
    assert epochs[-1].avg_loss < 0.5 * epochs[0].avg_loss
    assert epochs[-1].dev is not None
    assert epochs[-1].dev.errors.wer < 1
    assert len(held_out) == 1
    assert "Held-out signers: WER=" in out
