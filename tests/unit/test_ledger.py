import dataclasses
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signscope.errors import LedgerCutError, LedgerError
from signscope.invariants import broken_invariants
from signscope.ledger import Ledger, LedgerReader
from signscope.reader import _CHUNK as STEP_CHUNK
from signscope.reader import Place, until_uncut
from signscope.records import EventKind, Outcome, RunEventRecord, StepRecord
from signscope.schema import CURVE_BLOCK, DTYPES, OUTCOMES, STEP_COLUMNS, STEPS, Stretch, Table
from signscope.tally import OutcomeCounts
from tests.unit.made_records import (
    MAX_NORM,
    make_epoch,
    make_evaluation,
    make_step,
    non_finite_step,
    same_records,
)

META: dict[str, str | float] = {"policy": "clip", "max_norm": MAX_NORM}


def write(path: Path, steps: list[StepRecord], *, epochs: int = 0) -> None:
    with Ledger(path, META) as ledger:
        for record in steps:
            ledger.append(record)
        for epoch in range(1, epochs + 1):
            ledger.append_epoch(make_epoch(epoch, steps))
        ledger.append_event(RunEventRecord(len(steps), EventKind.FINISHED, "done", 1.0))


def mixed_steps() -> list[StepRecord]:
    steps = [make_step(step) for step in range(30)]
    steps[3] = non_finite_step(3)
    steps[7] = make_step(7, pre=math.inf, outcome=Outcome.SKIPPED_NON_FINITE_GRADIENT)
    steps[12] = make_step(12, loss=math.nan, pre=math.nan, outcome=Outcome.FAILED_OUT_OF_MEMORY)
    steps[21] = make_step(21, pre=345.05)
    return steps


def test_everything_written_reads_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = mixed_steps()
    event = RunEventRecord(4, EventKind.CHECKPOINT, "ein Häkchen \udcff", 3.5)
    epochs = [make_epoch(epoch, steps) for epoch in (1, 2, 3)]
    with Ledger(path, META) as ledger:
        for record in steps:
            ledger.append(record)
        for epoch in epochs:
            ledger.append_epoch(epoch)
        ledger.append_event(event)
        ledger.append_evaluation(3, make_evaluation("test"))
    with LedgerReader(path) as reader:
        assert same_records(reader.steps(), steps)
        assert same_records(reader.steps(5, 8), steps[5:9])
        assert reader.step(99) is None
        assert reader.last_step() == 29
        assert reader.step_count() == 30
        assert reader.epochs() == epochs
        assert reader.evaluations()[-1] == (3, make_evaluation("test"))
        assert reader.events() == [dataclasses.replace(event, text="ein Häkchen ?")]
        assert reader.meta() == {"policy": "clip", "max_norm": "1.0"}
        assert broken_invariants(reader) == []
        reader.verify()


def test_counts_are_those_of_the_records(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = mixed_steps()
    write(path, steps)
    with LedgerReader(path) as reader:
        for epoch in (None, 1, 2, 3, 4):
            rows = [record for record in steps if epoch in (None, record.epoch)]
            assert reader.counts(epoch) == OutcomeCounts(
                batches=len(rows),
                applied=sum(record.outcome.applied for record in rows),
                clipped=sum(record.clipped for record in rows),
                non_finite=sum(record.outcome.non_finite for record in rows),
                large=sum(record.large for record in rows),
                skipped_by_policy=0,
                out_of_memory=sum(
                    record.outcome is Outcome.FAILED_OUT_OF_MEMORY for record in rows
                ),
            )
        finite = [record.loss for record in steps[:10] if math.isfinite(record.loss)]
        assert reader.mean_loss(1) == math.fsum(finite) / len(finite)
        assert math.isnan(reader.mean_loss(4))


def test_columns_give_all_rows_in_chunks(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = mixed_steps()
    write(path, steps)
    with LedgerReader(path) as reader:
        chunks = list(reader.columns(["loss", "outcome", "frames", "sample_ids"], start=2, chunk=7))
        with pytest.raises(ValueError, match="no_such"):
            next(reader.columns(["no_such"]))
    loss = np.concatenate([chunk["loss"] for chunk in chunks])
    assert np.array_equal(loss, [record.loss for record in steps[2:]], equal_nan=True)
    codes = np.concatenate([chunk["outcome"] for chunk in chunks])
    assert [OUTCOMES[code] for code in codes] == [record.outcome for record in steps[2:]]
    assert chunks[0]["sample_ids"][0].startswith('["clip-2"')


def test_flush_makes_rows_visible_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    count = (
        "import sys; from pathlib import Path; from signscope.ledger import LedgerReader;"
        "r = LedgerReader(Path(sys.argv[1])); print(r.counts().batches, len(r.steps()))"
    )
    with Ledger(path, META) as ledger:
        for step in range(5):
            ledger.append(make_step(step))
        ledger.flush()
        seen = subprocess.run(
            [sys.executable, "-c", count, str(path)], capture_output=True, text=True, check=True
        )
    assert seen.stdout.split() == ["5", "5"]


def test_a_group_is_written_without_a_flush(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, META) as ledger, LedgerReader(path) as reader:
        ledger.append(make_step(0))
        with ledger._changed:
            assert ledger._changed.wait_for(lambda: ledger._written == 1, 20.0)
        assert reader.last_step() == 0


def test_a_ledger_is_continued_and_curves_join(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = [make_step(step, batches_per_epoch=500) for step in range(2 * CURVE_BLOCK + 100)]
    write(path, steps[: CURVE_BLOCK + 50])
    write(path, steps[CURVE_BLOCK + 50 :])
    with LedgerReader(path) as reader:
        loss = np.concatenate([block["loss"] for block in reader.curves()])
        assert np.array_equal(loss, np.array([record.loss for record in steps], np.float32))
        assert [event.step for event in reader.events()] == [CURVE_BLOCK + 50, CURVE_BLOCK + 50]
        assert reader._tally()["curves"] == 2
        missing = broken_invariants(reader)
    assert missing == [f"Epoch {epoch} was finished but has no row." for epoch in range(1, 5)]


@pytest.mark.parametrize("cut", [0, 7, CURVE_BLOCK, CURVE_BLOCK + 3])
def test_truncation_and_redoing_leave_no_trace(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger.sqlite"
    per_epoch = 400
    steps = [make_step(step, batches_per_epoch=per_epoch) for step in range(CURVE_BLOCK + 500)]
    epoch = cut // per_epoch + 1
    write(path, steps, epochs=3)
    with Ledger(path, META) as ledger:
        ledger.append_event(RunEventRecord(cut, EventKind.PAUSED, "kept", 1.0))
        ledger.truncate_from(cut, epoch)
        for record in steps[cut:]:
            ledger.append(record)
        for number in range(epoch, 4):
            ledger.append_epoch(make_epoch(number, steps))
    with LedgerReader(path) as reader:
        assert same_records(reader.steps(), steps)
        assert [record.epoch for record in reader.epochs()] == [1, 2, 3]
        assert [event.text for event in reader.events()] == ["kept"]
        assert broken_invariants(reader) == []
        reader.verify()


def test_a_changed_max_norm_holds_from_where_the_run_went_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step) for step in range(10)])
    with Ledger(path, {"policy": "clip", "max_norm": 50.0}) as ledger:
        ledger.truncate_from(5, 1)
        for step in range(5, 10):
            record = make_step(step, pre=100.0)
            ledger.append(dataclasses.replace(record, grad_norm_post=50.0, clip_coef=0.5))
    with LedgerReader(path) as reader:
        assert reader.meta()["max_norm"] == "50.0"
        assert [stretch[:2] for stretch in reader.meta_stretches()] == [(0, 4), (5, 1 << 62)]
        assert broken_invariants(reader) == []


@pytest.mark.parametrize(
    ("step", "changes", "sentence"),
    [
        (5, {"batch_idx": 9}, "not the next batch"),
        (5, {"loss": math.nan}, "not finite"),
        (5, {"grad_norm_post": 1.01}, "longer than max_norm"),
        (5, {"grad_norm_post": 0.9}, "times clip_coef"),
        (5, {"clip_coef": 0.5, "grad_norm_pre": 2.01, "grad_norm_post": 1.005}, "longer than"),
        (5, {"clip_coef": 0.1, "grad_norm_pre": 2.0, "grad_norm_post": 0.2}, "clip_coef is not"),
        (5, {"outcome": Outcome.SKIPPED_NON_FINITE_LOSS}, "its numbers are finite"),
        (5, {"outcome": Outcome.SKIPPED_BY_POLICY}, "says applied = 10, its rows say 9"),
        (5, {"loss": 3.0}, "avg_loss"),
    ],
)
def test_each_broken_invariant_is_told(
    tmp_path: Path, step: int, changes: dict[str, object], sentence: str
) -> None:
    path = tmp_path / "ledger.sqlite"
    sound = [make_step(number) for number in range(20)]
    steps = list(sound)
    steps[step] = dataclasses.replace(sound[step], **changes)  # type: ignore[arg-type]
    with Ledger(path, META) as ledger:
        for record in steps:
            ledger.append(record)
        for epoch in (1, 2):
            ledger.append_epoch(make_epoch(epoch, sound))
    with LedgerReader(path) as reader:
        assert any(sentence in told for told in broken_invariants(reader))


@pytest.mark.parametrize(("off", "sound"), [(1e-7, True), (1e-5, False)])
def test_a_mean_may_differ_by_the_order_of_its_sum_and_no_more(
    tmp_path: Path, off: float, sound: bool
) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = [make_step(number) for number in range(10)]
    epoch = make_epoch(1, steps)
    with Ledger(path, META) as ledger:
        for record in steps:
            ledger.append(record)
        ledger.append_epoch(dataclasses.replace(epoch, avg_loss=epoch.avg_loss * (1 + off)))
    with LedgerReader(path) as reader:
        assert (broken_invariants(reader) == []) is sound


@pytest.mark.parametrize("meta", [{}, {"policy": "none"}, {"policy": "skip:9", "max_norm": 0.5}])
def test_norms_are_held_to_no_bound_that_the_ledger_was_not_told(
    tmp_path: Path, meta: dict[str, str | float]
) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, meta) as ledger:
        for step in range(10):
            ledger.append(make_step(step))
    with LedgerReader(path) as reader:
        assert broken_invariants(reader) == []


def test_a_gap_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step, batches_per_epoch=100) for step in (0, 1, 3)])
    with LedgerReader(path) as reader:
        assert "Step 3 does not follow the step before it." in broken_invariants(reader)


def test_the_same_step_twice_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", META)
    ledger.append(make_step(0))
    ledger.append(make_step(0))
    with pytest.raises(LedgerError, match="contradicts") as caught:
        ledger.flush()
    assert "2 row(s) are not on disk" in str(caught.value)
    with pytest.raises(LedgerError):
        ledger.close()


def test_a_full_disk_loses_nothing_once_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, META)
    ledger.append(make_step(0))
    ledger.flush()
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")  # answers as a full disk does
    for step in range(1, 200):
        try:
            ledger.append(make_step(step))
        except LedgerError as error:  # as soon as the writer has told; the row is kept all the same
            assert "disk is full" in str(error)
    with pytest.raises(LedgerError, match="disk is full; 199 row") as caught:
        ledger.flush()
    assert caught.value.subject == str(path)
    assert "Free space" in caught.value.hint
    with LedgerReader(path) as reader:
        assert reader.step_count() == 1
    ledger._connection.execute("PRAGMA max_page_count = 1000000")
    ledger.flush()
    ledger.close()
    with LedgerReader(path) as reader:
        reader.verify()
        assert len(reader.steps()) == 200


def test_closing_on_a_full_disk_says_what_is_lost(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", META)
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    for step in range(50):
        ledger.append(make_step(step))
    with pytest.raises(LedgerError, match="disk is full; 50 row"):
        ledger.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ledger"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps open files in place")
def test_a_deleted_run_folder_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    ledger = Ledger(folder / "ledger.sqlite", META)
    shutil.rmtree(folder)
    ledger.append(make_step(0))
    with pytest.raises(LedgerError, match="run folder is gone; 1 row"):
        ledger.flush()
    with pytest.raises(LedgerError, match="run folder is gone"):
        ledger.append(make_step(1))
    with pytest.raises(LedgerError, match="2 row"):
        ledger.close()


def test_a_read_only_ledger_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", META)
    ledger._connection.execute("PRAGMA query_only = ON")
    ledger.append(make_step(0))
    with pytest.raises(LedgerError, match="read-only"):
        ledger.flush()
    with pytest.raises(LedgerError):
        ledger.close()


def test_a_closed_ledger_takes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", META)
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.append(make_step(0))
    with pytest.raises(LedgerError, match="closed"):
        ledger.flush()


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        LedgerReader(tmp_path / "missing.sqlite")
    text = tmp_path / "text.sqlite"
    text.write_text("this is no database" * 100)
    with pytest.raises(LedgerError):
        LedgerReader(text)
    with pytest.raises(LedgerError):
        Ledger(text)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(LedgerError, match="not a ledger"):
        LedgerReader(other)
    newer = tmp_path / "newer.sqlite"
    write(newer, [make_step(0)])
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(LedgerError, match="format 7"):
        LedgerReader(newer)
    with pytest.raises(LedgerError, match="format 7"):
        Ledger(newer)


def test_a_finished_ledger_is_one_file_that_a_read_only_folder_gives(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(0)])
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.sqlite"]
    tmp_path.chmod(0o555)
    try:
        with LedgerReader(path) as reader:
            assert len(reader.steps()) == 1
    finally:
        tmp_path.chmod(0o755)


def test_vanished_and_changed_rows_are_found(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step) for step in range(20)], epochs=2)
    for statement, error in (
        ("UPDATE steps SET loss = 1.0 WHERE step = 4", "row 4 of steps"),
        ("UPDATE steps SET loss = NULL WHERE step = 4", "row 4 of steps"),
        ("UPDATE steps SET loss = 'x' WHERE step = 4", "row 4 of steps"),
        ("DELETE FROM steps WHERE step = 19", "19 rows, 20 were"),
        ("UPDATE tally SET steps = 19", "count of its rows"),
        ("UPDATE epochs SET applied = 3 WHERE epoch = 1", "row 1 of epochs"),
    ):
        copy = tmp_path / "copy.sqlite"
        shutil.copy(path, copy)
        with sqlite3.connect(copy) as connection:
            connection.execute(statement)
        connection.close()
        with LedgerReader(copy) as reader, pytest.raises(LedgerError, match=error):
            reader.verify()
        with pytest.raises(LedgerError, match=error):
            Ledger(copy)


WRITE = """
import sys
from pathlib import Path
from signscope.ledger import Ledger
from tests.unit.made_records import make_epoch, make_step
ledger = Ledger(Path(sys.argv[1]), {"policy": "clip", "max_norm": 1.0})
steps = []
for step in range(10**9):
    steps.append(make_step(step, batches_per_epoch=500))
    ledger.append(steps[-1])
    if step % 500 == 499:
        ledger.append_epoch(make_epoch(step // 500 + 1, steps[-500:]))
    if step == 1500:
        ledger.flush()
        print("flushed", flush=True)
"""


def test_a_killed_writer_leaves_a_sound_ledger_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "flushed\n"
        process.kill()
        process.wait()
    with LedgerReader(path) as reader:
        last = reader.last_step()
        assert last is not None
        assert last >= 1500
        reader.verify()
        assert broken_invariants(reader) == []
    with Ledger(path, META) as ledger:
        ledger.truncate_from(1234, 3)
        for step in range(1234, 1300):
            ledger.append(make_step(step, batches_per_epoch=500))
    with LedgerReader(path) as reader:
        reader.verify()
        expected = [make_step(step, batches_per_epoch=500) for step in range(1300)]
        assert same_records(reader.steps(), expected)
        assert broken_invariants(reader) == []


def test_a_reader_never_sees_half_of_anything_while_rows_come(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = [make_step(step, batches_per_epoch=700) for step in range(5000)]
    with Ledger(path, META) as ledger:

        def write_all() -> None:
            for record in steps:
                ledger.append(record)

        writer = threading.Thread(target=write_all)
        writer.start()
        seen = 0
        while writer.is_alive() or seen == 0:
            with LedgerReader(path) as reader:
                reader.verify()
                loss = np.concatenate([[0.0], *(block["loss"] for block in reader.curves())])
                assert len(loss) - 1 >= seen
                seen = len(loss) - 1
                assert reader.step_count() >= seen
                assert all("no row" in told for told in broken_invariants(reader))
        writer.join()
    with LedgerReader(path) as reader:
        assert same_records(reader.steps(), steps)


def load(path: Path) -> str:
    """Everything that a ledger says."""
    with LedgerReader(path) as reader:
        reader.verify()
        curves = [
            sorted((name, column.tobytes()) for name, column in block.items())
            for block in reader.curves()
        ]
        return repr(
            (
                reader.steps(),
                reader.epochs(),
                reader.events(),
                reader.evaluations(),
                reader.meta(),
                reader.counts(),
                reader.counts(2),
                reader.mean_loss(1),
                curves,
            )
        )


@pytest.mark.parametrize("rounds", [300, pytest.param(10_000, marks=pytest.mark.soak)])
def test_damaged_bytes_are_an_error_or_change_nothing(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = [make_step(step, batches_per_epoch=600) for step in range(CURVE_BLOCK + 40)]
    write(path, steps, epochs=1)
    whole = path.read_bytes()
    truth = load(path)
    random = np.random.default_rng(7)
    damaged = tmp_path / "damaged.sqlite"
    refused = 0
    for number in range(rounds):
        content = bytearray(whole)
        how = number % 4
        place = int(random.integers(len(content)))
        if how == 0:
            content[place] ^= 1 << int(random.integers(8))
        elif how == 1:
            length = int(random.integers(1, 64))
            content[place : place + length] = random.bytes(length)[: len(content) - place]
        elif how == 2:
            del content[place:]
        else:
            end = min(place + int(random.integers(1, 4096)), len(content))
            content[place:end] = bytes(end - place)
        damaged.write_bytes(content)
        try:
            found = load(damaged)
        except LedgerError:
            refused += 1
        else:
            assert found == truth, f"round {number}: damage at byte {place} was believed"
    assert refused > rounds / 2


def test_a_damaged_write_ahead_log_gives_an_earlier_whole_state_or_an_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = [make_step(step, batches_per_epoch=600) for step in range(200)]
    ledger = Ledger(path, META)
    for record in steps:
        ledger.append(record)
        if record.step % 20 == 19:
            ledger.flush()
    main, wal = path.read_bytes(), path.with_name("ledger.sqlite-wal").read_bytes()
    ledger.close()
    assert len(wal) > 10_000
    random = np.random.default_rng(3)
    copy = tmp_path / "copy" / "ledger.sqlite"
    lengths = set()
    for _ in range(60):
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        copy.write_bytes(main)
        content = bytearray(wal)
        content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        copy.with_name("ledger.sqlite-wal").write_bytes(content)
        try:
            with LedgerReader(copy) as reader:
                reader.verify()
                found = reader.steps()
        except LedgerError:
            continue
        assert same_records(found, steps[: len(found)])
        assert len(found) % 20 == 0
        lengths.add(len(found))
    assert len(lengths) > 3


def test_the_record_gives_the_columns_that_ledgers_have_had_since_format_1() -> None:
    assert STEPS.create_sql == (
        "CREATE TABLE steps (step INTEGER PRIMARY KEY, epoch INTEGER, batch_idx INTEGER, frames INTEGER, "
        "glosses INTEGER, loss REAL, loss_per_gloss REAL, grad_norm_pre REAL, grad_norm_post REAL, "
        "clip_coef REAL, lr REAL, blank_fraction REAL, data_s REAL, step_s REAL, memory_mib REAL, "
        "wall_time REAL, outcome TEXT NOT NULL, sample_ids TEXT NOT NULL, detail TEXT NOT NULL, "
        "crc INTEGER NOT NULL)"
    )
    floats = (
        "loss loss_per_gloss grad_norm_pre grad_norm_post clip_coef lr blank_fraction data_s step_s"
    )
    assert [(name, dtype.str.lstrip("|")) for name, dtype in DTYPES.items()] == [
        ("step", "<i4"),
        ("epoch", "<i4"),
        ("wall_time", "<f8"),
        *((name, "<f4") for name in [*floats.split(), "memory_mib"]),
        ("outcome", "u1"),
        ("clipped", "u1"),
    ]
    assert set(STEP_COLUMNS) == {field.name for field in dataclasses.fields(StepRecord)}


def resumed_from(path: Path, step: int, *, until: int) -> None:
    """Go on with a ledger from ``step``, as a resumed run does."""
    with Ledger(path, META) as ledger:
        ledger.truncate_from(step, step // 10 + 1)
        for number in range(step, until):
            ledger.append(make_step(number, loss=1.0))


def test_a_ledger_that_is_cut_while_it_is_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step) for step in range(3000)])
    with LedgerReader(path) as reader:
        pieces = reader.columns(["loss"], chunk=100)
        next(pieces)
        resumed_from(path, 50, until=60)
        with pytest.raises(LedgerCutError, match="went on from an earlier batch"):
            list(pieces)
        curves = reader.curves()
        next(curves)
        resumed_from(path, 20, until=30)
        with pytest.raises(LedgerCutError):
            list(curves)
        assert len(reader.steps()) == 30
        reader.verify()


def test_cut_and_regrown_rows_are_not_mixed_with_those_read_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    steps = [make_step(step) for step in range(2 * STEP_CHUNK)]
    write(path, steps)
    reads: list[int] = []
    with LedgerReader(path) as reader:

        def read() -> list[StepRecord]:
            reads.append(0)
            chunks = reader.iter_steps()
            found = list(next(chunks))
            if len(reads) == 1:
                resumed_from(path, STEP_CHUNK // 2, until=STEP_CHUNK + 10)
            for chunk in chunks:
                found += chunk
            return found

        found = until_uncut(read)
    assert len(reads) == 2
    assert [record.loss for record in found[STEP_CHUNK // 2 :]] == [1.0] * (STEP_CHUNK // 2 + 10)


def test_resuming_at_the_end_of_a_ledger_makes_nobody_start_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step) for step in range(10)])
    with LedgerReader(path) as reader:
        before = reader.generation()
        resumed_from(path, 10, until=12)
        assert reader.generation() == before


def test_a_reader_is_told_what_is_new_and_from_where_on_rows_were_cut(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step) for step in range(30)])
    with LedgerReader(path) as reader:
        news = reader.since(most=20)
        assert (news.cut, news.kept, len(news.steps)) == (False, 0, 20)
        news = reader.since(news.place)
        assert (news.cut, [record.step for record in news.steps]) == (False, list(range(20, 30)))
        again = reader.since(news.place)
        assert (again.cut, again.steps, again.place) == (False, (), news.place)
        resumed_from(path, 25, until=28)
        resumed_from(path, 22, until=40)
        resumed_from(path, 33, until=34)
        cut = reader.since(news.place)
        assert (cut.cut, cut.kept) == (True, 22)
        assert [record.step for record in cut.steps] == list(range(22, 34))
        assert not reader.since(cut.place).cut
        assert reader.since(news.place) == cut
        # Who had not come as far as the cut loses nothing.
        early = reader.since(Place(5, news.place.generation))
        assert (early.cut, early.kept) == (False, 5)
        assert reader.meta() == {"policy": "clip", "max_norm": "1.0"}


def append_long(ledger: Ledger, start: int = 0, end: int = 9000, loss: float = 5.0) -> None:
    """Batches ``start`` to before ``end``, group by group as in a run, and the first epoch."""
    for number in range(start, end):
        ledger.append(make_step(number, batches_per_epoch=1000, loss=loss))
        if number % 500 == 0:
            ledger.flush()
    if start < 1000 <= end:
        steps = [make_step(number, batches_per_epoch=1000, loss=loss) for number in range(1000)]
        ledger.append_epoch(make_epoch(1, steps))


def write_long(path: Path) -> Stretch:
    """Write a ledger that is several times as long as what is read back at each resume."""
    with Ledger(path, META) as ledger:
        append_long(ledger)
    with LedgerReader(path) as reader:
        known = reader.verified()
        assert 3000 < known.steps <= 7000
        assert known.curves > 1
        return known


def test_rows_verified_long_ago_are_not_read_again_but_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signscope.ledger.RECHECKED", 2000)
    path = tmp_path / "ledger.sqlite"
    known = write_long(path)
    read: list[int] = []
    intact = Table.intact

    def noted(self: Table, row: tuple[Any, ...]) -> bool:
        if self.name == "steps":
            read.append(row[0])
        return intact(self, row)

    monkeypatch.setattr(Table, "intact", noted)
    with Ledger(path, META):
        pass
    assert set(read) == set(range(known.steps, 9000))
    with LedgerReader(path) as reader:
        reader.verify()
    assert set(read) == set(range(9000))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE steps SET loss = 1.5 WHERE step = 8000",
        "DELETE FROM steps WHERE step = 7500",
        "UPDATE steps SET (loss, crc) = (SELECT loss, crc FROM steps WHERE step = 1) WHERE step = 8999",
        "UPDATE curves SET data = zeroblob(length(data)) WHERE first_step = 7168",
        "DELETE FROM curves WHERE first_step = 7168",
        "UPDATE tally SET checksums = checksums + 1",
        "UPDATE epochs SET applied = 3 WHERE epoch = 1",
        "UPDATE meta SET value = '2.0' WHERE key = 'max_norm'",
    ],
)
def test_whatever_a_resume_depends_on_is_verified_in_a_long_ledger_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr("signscope.ledger.RECHECKED", 2000)
    path = tmp_path / "ledger.sqlite"
    write_long(path)
    changed(path, statement)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(path, META)


def changed(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE verified SET steps = steps + 1",
        "UPDATE verified SET checksums = 7, crc = 0",
        "DELETE FROM verified",
        "DROP TABLE verified",
    ],
)
def test_a_mark_of_what_was_verified_that_is_wrong_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr("signscope.ledger.RECHECKED", 2000)
    path = tmp_path / "ledger.sqlite"
    write_long(path)
    changed(path, statement)
    changed_early = tmp_path / "early.sqlite"
    shutil.copy(path, changed_early)
    changed(changed_early, "UPDATE steps SET loss = 1.5 WHERE step = 3")
    with pytest.raises(LedgerError, match="row 3 of steps"):
        Ledger(changed_early, META)
    with Ledger(path, META):
        pass
    with LedgerReader(path) as reader:
        assert 0 < reader.verified().steps <= 7000


@pytest.mark.parametrize("cut", [0, 500, 4096, 6000, 8500, 9000])
def test_what_was_verified_stays_true_when_rows_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr("signscope.ledger.RECHECKED", 2000)
    path = tmp_path / "ledger.sqlite"
    write_long(path)
    for end in (cut + 100, 12_000, 12_100):
        with Ledger(path, META) as ledger:
            ledger.truncate_from(cut, cut // 1000 + 1)
            append_long(ledger, cut, end, loss=1.0 / end)  # other rows than those that were cut
        with LedgerReader(path) as reader:
            reader.verify_since(reader.verified(), 0)
            reader.verify()


FOREIGN = [
    (
        "CREATE TRIGGER greedy AFTER INSERT ON steps BEGIN INSERT INTO meta "
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n, n, n, n, n FROM c; END",
        "trigger.*greedy",
    ),
    (
        "CREATE VIEW endless AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
        "SELECT n FROM c",
        "view.*endless",
    ),
    ("CREATE INDEX by_loss ON steps (loss)", "index.*by_loss"),
    ("CREATE TABLE extra (x)", "table.*extra"),
    ("ALTER TABLE events ADD COLUMN more TEXT DEFAULT 'x'", "table.*events"),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("statement", "named"), FOREIGN)
def test_a_ledger_with_a_trigger_or_a_view_is_refused_by_name(
    tmp_path: Path, statement: str, named: str
) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step) for step in range(5)])
    changed(path, statement)
    for open_it in (LedgerReader, Ledger):
        with pytest.raises(LedgerError, match=f"did not make.*{named.split('.*')[1]}") as caught:
            open_it(path)
        assert re.search(named, str(caught.value))


@pytest.mark.timeout(20)
def test_a_view_in_the_place_of_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step) for step in range(5)])
    changed(path, "DROP TABLE steps")
    changed(
        path,
        "CREATE VIEW steps AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
        "SELECT n AS step FROM c",
    )
    with pytest.raises(LedgerError, match="view that SignScope did not make"):
        LedgerReader(path)


def test_a_description_of_a_table_that_is_no_text_any_more_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(step) for step in range(5)])
    content = bytearray(path.read_bytes())
    # SQLite's own words about it quote the byte, and then are no UTF-8 either.
    content[content.index(b"TABLE steps (") + len("TABLE steps ")] = 0xBF
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="damaged"):
        LedgerReader(path)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(path, META)


def test_a_trigger_made_while_a_run_trains_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, META)
    ledger.append(make_step(0))
    ledger.flush()
    changed(
        path, "CREATE TRIGGER sly AFTER INSERT ON steps BEGIN DELETE FROM steps WHERE step = 0; END"
    )
    ledger.append(make_step(1))
    with pytest.raises(LedgerError, match="not authorized"):
        ledger.flush()
    with pytest.raises(LedgerError):
        ledger.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM steps").fetchone() == (1,)
    connection.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_pipe_or_a_link_beside_a_ledger_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(0)])
    beside = tmp_path / f"ledger.sqlite{suffix}"
    os.mkfifo(beside)
    for open_it in (LedgerReader, Ledger):
        with pytest.raises(LedgerError, match=f"sqlite{suffix}"):
            open_it(path)
    beside.unlink()
    beside.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match=f"sqlite{suffix}"):
        LedgerReader(path)


def setting(ledger: Ledger, name: str) -> Any:
    return ledger._connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_every_transaction_is_synced_before_it_counts_as_written(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite", META) as ledger:
        assert setting(ledger, "synchronous") == 2, "FULL: a power cut loses nothing that was told"
        assert setting(ledger, "fullfsync") == 1, (
            "macOS' fsync alone leaves it in the drive's cache"
        )
        assert setting(ledger, "checkpoint_fullfsync") == 1
        assert setting(ledger, "journal_mode") == "wal"
        assert ledger.notice == ""


def test_a_ledger_on_a_network_share_has_a_rollback_journal_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [make_step(0)])
    monkeypatch.setattr("signscope.ledger.network_file_system", lambda path: "nfs4")
    with Ledger(path, META) as ledger:
        assert setting(ledger, "journal_mode") == "delete"
        assert setting(ledger, "synchronous") == 2
        assert "nfs4" in ledger.notice
        ledger.append(make_step(1))
        ledger.flush()
        assert not (tmp_path / "ledger.sqlite-wal").exists()
        assert not (tmp_path / "ledger.sqlite-shm").exists()
        with LedgerReader(path) as reader:  # nothing holds the file against readers
            assert reader.step_count() == 2
        ledger.append(make_step(2))
    with LedgerReader(path) as reader:
        reader.verify()
        assert reader.step_count() == 3
