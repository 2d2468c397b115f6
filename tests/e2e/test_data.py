from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import AugmentConfig
from core.corpus.reader import Corpus
from signscope.ledger import LedgerReader
from tests.e2e.test_train import run_folder

Program = Callable[..., tuple[int, str, str]]


def test_demo_makes_a_corpus(program: Program, tmp_path: Path) -> None:
    status, out, err = program("demo", "--out", tmp_path / "demo")
    assert status == 0, err
    with Corpus.open(tmp_path / "demo") as corpus:
        assert corpus.synthetic
        assert len(corpus.signers) >= 8
        assert len(corpus.glosses) >= 20
        assert f"{len(corpus)} synthetic sentences of {len(corpus.signers)} signers" in out


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
