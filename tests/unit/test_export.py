import json
import math
import re
import struct
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.analysis.export.formats import export_run
from core.analysis.export.html import report_html
from core.analysis.export.svg_chart import Chart, Curve, draw
from core.analysis.export.tables import COLUMNS
from core.analysis.export.targets import EVENT_FILE_PREFIX
from core.analysis.export.tensorboard import masked_checksums
from core.analysis.health.findings import Finding, FindingKind, Severity
from core.errors import ExportError
from signscope.errors import LedgerError
from signscope.folder import CorpusInfo, RunFolder
from signscope.ledger import Ledger, LedgerReader
from signscope.records import Outcome, StepRecord
from tests.unit.made_records import make_epoch, make_evaluation, make_step, non_finite_step


class PageChecker(HTMLParser):
    """Notes tags, tags left open, texts, and whatever would be fetched from elsewhere."""

    VOID = ("meta", "img", "path", "circle", "polyline", "br")

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in self.VOID:
            self.open.append(tag)
        values = dict(attrs)
        for name in ("src", "href", "xlink:href"):
            value = values.get(name)
            if value is not None and not value.startswith("data:"):
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 60 batches in which every kind of number and text occurs."""
    folder = RunFolder.create(tmp_path / "runs", "run")
    steps = [make_step(step) for step in range(60)]
    steps[7] = non_finite_step(7)
    steps[9] = make_step(9, pre=math.inf, outcome=Outcome.SKIPPED_NON_FINITE_GRADIENT)
    steps[11] = make_step(11, detail='a "quoted", text\nof two lines; ñ')
    with Ledger(folder.ledger_path, {"policy": "clip", "max_norm": 1.0}) as ledger:
        for record in steps:
            ledger.append(record)
        for epoch in range(1, 7):
            ledger.append_epoch(make_epoch(epoch, steps))
        ledger.append_evaluation(6, make_evaluation("test"))
    return folder.path


def steps_of(run: Path) -> list[StepRecord]:
    with LedgerReader(RunFolder(run).ledger_path) as reader:
        return reader.steps()


def check_frame(frame: Any, steps: list[StepRecord]) -> None:
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == len(steps)
    for name in COLUMNS:
        expected = [getattr(record, name) for record in steps]
        if name == "sample_ids":
            assert [tuple(ids) for ids in frame[name]] == expected
        elif isinstance(expected[0], float):
            assert frame[name].dtype == np.float64
            assert np.array_equal(frame[name].to_numpy(), expected, equal_nan=True)
        else:
            assert frame[name].tolist() == expected


def test_csv_reads_back_as_the_ledger(run: Path, tmp_path: Path) -> None:
    target = export_run(run, tmp_path / "out" / "steps.csv")
    frame = pd.read_csv(target, keep_default_na=False)
    floats = [name for name in COLUMNS if isinstance(getattr(make_step(0), name), float)]
    frame[floats] = frame[floats].astype(np.float64)
    frame["sample_ids"] = frame["sample_ids"].map(json.loads)
    check_frame(frame, steps_of(run))


def test_parquet_reads_back_as_the_ledger(run: Path, tmp_path: Path) -> None:
    target = export_run(run, tmp_path / "steps.parquet")
    table = pq.read_table(target)
    assert all(column.null_count == 0 for column in table.columns)
    assert math.isnan(table.column("loss")[7].as_py())
    assert json.loads(table.schema.metadata[b"signscope.ledger"]) == {
        "policy": "clip",
        "max_norm": "1.0",
    }
    check_frame(table.to_pandas(), steps_of(run))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboards_own_reader_gives_the_ledger(run: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing import plugin_event_accumulator
    from tensorboard.util import tensor_util

    target = export_run(run, tmp_path / "log", "tensorboard")
    everything = {plugin_event_accumulator.TENSORS: 0}
    accumulator = plugin_event_accumulator.EventAccumulator(str(target), everything)
    accumulator.Reload()
    steps = steps_of(run)
    tags = set(accumulator.PluginTagToContent("scalars"))
    assert {"batch/loss", "batch/applied", "epoch/avg_loss", "dev/wer", "test/wer"} <= tags
    for name in ("loss", "grad_norm_pre", "clip_coef", "lr", "step_s", "frames", "epoch"):
        events = accumulator.Tensors(f"batch/{name}")
        values = [tensor_util.make_ndarray(event.tensor_proto) for event in events]
        assert all(value.dtype == np.float64 and value.shape == () for value in values)
        expected = [getattr(record, name) for record in steps]
        assert np.array_equal([value.item() for value in values], expected, equal_nan=True)
        assert [event.step for event in events] == [record.step for record in steps]
        assert [event.wall_time for event in events] == [record.wall_time for record in steps]
    wer = accumulator.Tensors("dev/wer")
    assert [event.step for event in wer] == [9, 19, 29, 39, 49, 59]
    assert tensor_util.make_ndarray(wer[0].tensor_proto).item() == make_evaluation().errors.wer


def test_checksums_are_those_of_the_published_examples() -> None:
    """CRC-32C of RFC 3720, appendix B.4, masked as TensorFlow's record_writer masks them."""
    examples = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        b"123456789": 0xE3069283,
        b"": 0,
    }
    masked = masked_checksums(list(examples))
    for found, plain in zip(masked.tolist(), examples.values(), strict=True):
        assert found == (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("name", ["steps.csv", "steps.parquet", "log", "page.html"])
def test_a_target_is_replaced_only_when_asked(run: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "out" / name
    export_run(run, target)
    before = {file.name for file in target.parent.iterdir()}
    assert before == {name}
    with pytest.raises(ExportError, match="exists already"):
        export_run(run, target)
    export_run(run, target, overwrite=True)
    assert {file.name for file in target.parent.iterdir()} == before


def test_a_folder_of_other_things_is_never_replaced(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "photos"
    target.mkdir()
    (target / "holiday.jpg").touch()
    with pytest.raises(ExportError, match="not a TensorBoard folder"):
        export_run(run, target, overwrite=True)
    assert (target / "holiday.jpg").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    export_run(run, empty)
    assert [file.name.startswith(EVENT_FILE_PREFIX) for file in empty.iterdir()] == [True]


@pytest.mark.parametrize("name", ["steps.csv", "steps.parquet", "log"])
def test_a_cancelled_export_leaves_nothing(run: Path, tmp_path: Path, name: str) -> None:
    class Cancelled(Exception):
        pass

    def cancel(_done: int, _total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        export_run(run, tmp_path / "out" / name, progress=cancel)
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_counts_rows(run: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    export_run(run, tmp_path / "a.csv", progress=lambda done, total: told.append((done, total)))
    assert told == [(60, 60)]


def test_errors_are_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="cannot be written") as caught:
        export_run(run, tmp_path / "file" / "steps.csv")
    assert caught.value.hint
    RunFolder(run).ledger_path.unlink()
    with pytest.raises(LedgerError, match="no ledger"):
        export_run(run, tmp_path / "steps.csv")
    assert not (tmp_path / "steps.csv").exists()


def test_a_damaged_row_ends_the_export(run: Path, tmp_path: Path) -> None:
    path = RunFolder(run).ledger_path
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack(">d", make_step(30).loss))
    content[place + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="row 30 of steps"):
        export_run(run, tmp_path / "steps.csv")
    assert not (tmp_path / "steps.csv").exists()


def test_the_report_is_one_page_that_needs_nothing_else(run: Path, tmp_path: Path) -> None:
    folder = RunFolder(run)
    folder.update_about(name="<b>Bold</b> & co")
    folder.update_info(corpus=CorpusInfo(name="demo", synthetic=True))
    folder.config_path.write_text('seed = 3\n[optim]\nlr = 0.002\nnote = "<script>"\n')
    finding = Finding(
        FindingKind.LATCHED, Severity.CRITICAL, "Latched", "50 batches.", "Clip instead.", 12
    )
    page = report_html(
        run,
        tmp_path / "report.html",
        pictures={"Window": b"\x89PNG\r\n", "Plot": b"<svg/>"},
        findings=[finding],
    ).read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "<script" not in page
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page
    checker = PageChecker()
    checker.feed(page)
    assert checker.open == []
    assert checker.links == []
    text = " ".join(checker.text.split())
    for wanted in (
        "<b>Bold</b> & co",
        "demo (synthetic, not real signing)",
        "Batches 60 Applied 58 Not applied 2",
        "Critical: Latched (from batch 12 on) 50 batches. Clip instead.",
        "optim.lr 0.002",
        "WER on test, epoch 6 22.0 % (S 4 D 3 I 2)",
        "The ledger is sound",
        "max_norm 1.0",
    ):
        assert wanted in text, wanted
    assert checker.tags["svg"] == 4
    assert checker.tags["img"] == 2
    assert 'class="mark"' in page
    assert "prefers-color-scheme: dark" in page


def test_a_run_without_batches_has_a_report(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "empty")
    Ledger(folder.ledger_path).close()
    page = report_html(folder.path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No finite values" in page
    assert "settings of the run cannot be read" in page


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [0.0, 0.0], [-3.0, 7.0], [1e-9, 1e9]])
def test_charts_of_odd_ranges_stay_within_the_picture(values: list[float], log: bool) -> None:
    x = np.arange(len(values), dtype=np.float64)
    picture = draw(Chart("t", "x", [Curve("c", "a", x, np.array(values), dots=True)], log=log))
    circles = re.findall(r'cx="([^"]+)" cy="([^"]+)"', picture)
    assert len(circles) == sum(value > 0 or not log for value in values)
    for left, top in circles:
        assert 0 <= float(left) <= 900
        assert 0 <= float(top) <= 260
    assert "nan" not in picture


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "events"])
def test_an_export_begins_anew_when_the_run_is_resumed_meanwhile(tmp_path: Path, name: str) -> None:
    folder = RunFolder.create(tmp_path / "runs", "run")
    steps = [make_step(step) for step in range(25_000)]
    with Ledger(folder.ledger_path) as ledger:
        for record in steps:
            ledger.append(record)
    calls: list[int] = []

    def resume_after_the_first_piece(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 1:
            with Ledger(folder.ledger_path) as ledger:
                ledger.truncate_from(10, 2)
                ledger.append(make_step(10, loss=1.0))

    export_run(folder.path, tmp_path / name, progress=resume_after_the_first_piece)
    assert calls == [20_000, 11]
    if name.endswith("csv"):
        assert list(pd.read_csv(tmp_path / name)["step"]) == list(range(11))
