"""What SignScope 0.1.0 wrote is read, exported, verified and gone on with by every later version.

The files are those of tests/fixtures/schema-1, the expectations are what 0.1.0 read from them.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from core.analysis.catalogue import list_runs
from core.analysis.export.formats import export_run
from core.analysis.export.targets import EVENT_FILE_PREFIX
from core.config import load_config
from core.corpus.reader import Corpus
from core.training.checkpoint import newest_checkpoint, read_checkpoint
from core.training.session import ChangedSinceCheckpointError, TrainingJob, run_job
from signscope.folder import RunFolder
from signscope.invariants import broken_invariants
from signscope.reader import LedgerReader
from signscope.records import Outcome, StepRecord
from tests.conftest import REPOSITORY
from tests.tiny_run import Recorder, started_control, train

KEPT = REPOSITORY / "tests" / "fixtures" / "schema-1"
EXPECTED = json.loads((KEPT / "expected" / "values.json").read_text(encoding="utf-8"))
STEPS = list(
    csv.DictReader((KEPT / "expected" / "steps.csv").read_text(encoding="utf-8").splitlines())
)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixture, which is the working folder: the run names its corpus relative to it."""
    copy = tmp_path / "schema-1"
    shutil.copytree(KEPT, copy)
    monkeypatch.chdir(copy)
    return copy


def assert_holds(found: Any, expected: Any, where: str = "") -> None:
    """Fail unless every value of ``expected`` is in ``found``; a later version may know more."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_holds(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, value in enumerate(expected):
            assert_holds(found[number], value, f"{where}[{number}]")
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(found), where
    else:
        assert found == expected, where


def plain(record: Any) -> dict[str, Any]:
    return dataclasses.asdict(record)


def row_of(step: int) -> StepRecord:
    """The record that stands in the long ledger as batch ``step``."""
    wave = step % 16 / 16
    outcome = list(Outcome)[step // 7 % 5] if step % 7 == 0 else Outcome.APPLIED
    gone = outcome is Outcome.FAILED_OUT_OF_MEMORY
    lossless = gone or outcome is Outcome.SKIPPED_NON_FINITE_LOSS
    infinite = outcome is Outcome.SKIPPED_NON_FINITE_GRADIENT
    return StepRecord(
        step=step,
        epoch=1 + step // 100,
        batch_idx=step % 100,
        loss=math.nan if lossless else 8 + wave,
        loss_per_gloss=math.nan if gone else 1 + wave / 8,
        grad_norm_pre=math.inf if infinite else math.nan if gone else 3.0 + wave,
        grad_norm_post=math.nan if gone else 1.0,
        clip_coef=0.25,
        lr=0.001,
        outcome=outcome,
        sample_ids=(f"s{step % 10}",),
        frames=100 + step % 3,
        glosses=8,
        blank_fraction=0.5,
        data_s=0.0,
        step_s=0.125,
        memory_mib=512.0,
        wall_time=1.75e9 + step,
    )


# ---------------------------------------------------------------- the run


def test_a_run_of_schema_1_is_listed_with_its_results(kept: Path) -> None:
    (found,) = list_runs(kept)
    assert (found.name, found.state, found.problem) == ("schema 1", "finished", "")
    assert (found.batches, found.epochs, found.total_epochs) == (35, 5, 5)
    assert (found.best_wer, found.test_wer) == (1.0, 1.0)
    assert (found.corpus, found.synthetic, found.device) == ("schema 1", True, "cpu")
    written = json.loads((KEPT / "run" / "run.json").read_text(encoding="utf-8"))
    assert (found.created, found.duration_s) == (written["created"], written["duration_s"])


def test_a_ledger_of_schema_1_is_verified_and_sound(kept: Path) -> None:
    with LedgerReader(RunFolder(kept / "run").ledger_path) as reader:
        reader.verify()
        assert broken_invariants(reader) == []


def test_every_number_of_a_ledger_of_schema_1_is_read_as_it_was_written(kept: Path) -> None:
    with LedgerReader(RunFolder(kept / "run").ledger_path) as reader:
        steps = [plain(record) for record in reader.steps()]
        assert_holds([plain(record) for record in reader.epochs()], EXPECTED["epochs"])
        assert_holds([plain(record) for record in reader.events()], EXPECTED["events"])
        assert_holds(reader.meta(), EXPECTED["meta"])
        evaluations = [[epoch, plain(made)] for epoch, made in reader.evaluations()]
    assert_holds(evaluations, EXPECTED["evaluations"])
    numbers = set(STEPS[0]) - {"outcome", "sample_ids", "detail"}
    assert len(steps) == len(STEPS) == 35
    for found, expected in zip(steps, STEPS, strict=True):
        assert_holds(found, {name: float(expected[name]) for name in numbers})
        assert (found["outcome"], found["detail"]) == (expected["outcome"], expected["detail"])
        assert list(found["sample_ids"]) == json.loads(expected["sample_ids"])
    assert [record["outcome"] for record in steps].count("applied") == 34


def test_a_run_of_schema_1_is_exported_with_the_same_numbers(kept: Path) -> None:
    written = export_run(kept / "run", kept / "steps.csv").read_text(encoding="utf-8")
    assert_holds(list(csv.DictReader(written.splitlines())), STEPS)
    parquet = pq.read_table(export_run(kept / "run", kept / "steps.parquet")).to_pylist()
    for found, expected in zip(parquet, STEPS, strict=True):
        assert_holds(found, {"loss": float(expected["loss"]), "step": int(expected["step"])})
    page = export_run(kept / "run", kept / "report.html").read_text(encoding="utf-8")
    assert "schema 1" in page
    assert any(export_run(kept / "run", kept / "log").glob(f"{EVENT_FILE_PREFIX}*"))


def test_packed_curves_of_schema_1_equal_their_rows(kept: Path) -> None:
    path = kept / "long.sqlite"
    path.write_bytes(gzip.decompress((kept / "long.sqlite.gz").read_bytes()))
    rows = [row_of(step) for step in range(1040)]
    with LedgerReader(path) as reader:
        reader.verify()
        assert_holds([plain(record) for record in reader.steps()], [plain(row) for row in rows])
        for name in ("step", "loss", "grad_norm_pre", "clip_coef", "step_s"):
            drawn = [value for part in reader.curves() for value in part[name].tolist()]
            assert_holds(drawn, [getattr(row, name) for row in rows], name)


def test_checkpoints_of_schema_1_are_whole(kept: Path) -> None:
    folder = kept / "run" / "checkpoints"
    newest, best = newest_checkpoint(folder), read_checkpoint(folder / "best.safetensors")
    assert (newest.state.step, newest.state.epoch, newest.state.applied) == (35, 6, 34)
    assert (best.state.step, best.state.best_wer) == (35, 1.0)
    assert newest.state.corpus_fingerprint == EXPECTED["corpus"]["fingerprint"]


def test_a_run_of_schema_1_is_resumed_after_a_warning_that_the_code_has_changed(kept: Path) -> None:
    config = load_config(kept / "run" / "config.toml")
    longer = config.model_copy(update={"optim": config.optim.model_copy(update={"epochs": 7})})
    with pytest.raises(ChangedSinceCheckpointError, match="code was"):
        run_job(TrainingJob(config, kept, resume=kept / "run"), started_control())
    job = TrainingJob(longer, kept, resume=kept / "run", accept_changes=True)
    result = run_job(job, started_control())
    assert (result.state, result.epochs, result.steps) == ("finished", 7, 49)
    with LedgerReader(RunFolder(kept / "run").ledger_path) as reader:
        reader.verify()
        assert broken_invariants(reader) == []
        losses = [record.loss for record in reader.steps()]
    assert_holds(losses[:35], [float(step["loss"]) for step in STEPS])
    assert all(map(math.isfinite, losses[35:]))


# ---------------------------------------------------------------- the corpus


def test_every_sample_of_a_corpus_of_schema_1_is_read_as_it_was_written(kept: Path) -> None:
    with Corpus.open(kept / "corpus") as corpus:
        corpus.verify()
        assert corpus.fingerprint == EXPECTED["corpus"]["fingerprint"]
        found = []
        for sample in corpus:
            landmarks_TKC = sample.landmarks_TKC
            values = {
                field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)
            }
            values |= {
                "shape": landmarks_TKC.shape,
                "landmarks_sha256": hashlib.sha256(landmarks_TKC.tobytes()).hexdigest(),
            }
            found.append(json.loads(json.dumps(values, default=lambda array: None)))
    assert_holds(found, EXPECTED["corpus"]["samples"])


def test_a_corpus_of_schema_1_is_trained_on(kept: Path) -> None:
    seen = Recorder()
    result = train(load_config(kept / "run" / "config.toml"), kept / "runs", seen)
    assert (result.state, result.steps) == ("finished", 35)
    assert all(record.outcome is Outcome.APPLIED for record in seen.steps)
    assert len(seen.tests) == 1
