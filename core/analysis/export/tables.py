"""The ledger of a run for other programs: CSV, Parquet, TensorBoard. All rows, nothing sampled.

Every row is compared with its checksum on the way. The target appears whole or not at all. To cancel, let
``progress`` raise.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.analysis.export.targets import EVENT_FILE_PREFIX, new_file, new_folder
from signscope.errors import LedgerError
from signscope.reader import LedgerReader
from signscope.records import StepRecord
from signscope.schema import STEP_COLUMNS, STEPS

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[int, int], None]
"""Called with (rows written, rows in all) some times a second."""

COLUMNS = STEP_COLUMNS
"""Columns of CSV and Parquet files: the fields of StepRecord, in their order."""


def export_csv(
    reader: LedgerReader,
    target: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write one line a batch (UTF-8, comma, header) and give their number.

    Numbers are written so that they read back exactly (pandas before 3: ``float_precision="round_trip"``);
    NaN is ``nan``, infinity ``inf``. ``sample_ids`` is a JSON list.
    """
    done = 0
    with new_file(target, overwrite=overwrite) as file:
        file.write(_csv_lines([COLUMNS]))
        for records in _all_steps(reader, progress):
            file.write(_csv_lines(map(_csv_row, records)))
            done += len(records)
    return done


def export_parquet(
    reader: LedgerReader,
    target: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write one row a batch and give their number.

    float64 numbers with NaN as NaN (there are no nulls), ``sample_ids`` a list of strings; what
    the ledger knows of the run (policy, max_norm) is in the file's key-value metadata.
    """
    import pyarrow.parquet as pq

    schema = _arrow_schema(reader.meta())
    done = 0
    with (
        new_file(target, overwrite=overwrite) as file,
        pq.ParquetWriter(file, schema) as writer,
    ):
        for records in _all_steps(reader, progress):
            writer.write_table(_arrow_table(records, schema))
            done += len(records)
    return done


def export_tensorboard(
    reader: LedgerReader,
    target: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a TensorBoard log folder with every batch and give the number of batches.

    Tags are ``batch/<column>`` for all numbers of a batch and ``batch/applied`` (1 or 0), at their
    step and wall time; ``epoch/avg_loss`` and ``<split>/wer``, ``<split>/loss`` at the last step of
    the epoch. Values are tensors of doubles in the scalars plugin, so nothing is rounded to the
    float32 of TensorBoard's older format; the web page shows them as it shows any scalar (and
    samples them as it always does, unless started with ``--samples_per_plugin scalars=0``).
    Texts (sample ids, details) have no place there.
    """
    from core.analysis.export.tensorboard import EventWriter

    done = 0
    with new_folder(target, overwrite=overwrite) as temporary:
        name = f"{EVENT_FILE_PREFIX}{int(time.time())}.signscope"
        with (temporary / name).open("wb") as file:
            writer = EventWriter(file)
            for records in _all_steps(reader, progress):
                writer.write(
                    [(record.step, record.wall_time, _scalars(record)) for record in records]
                )
                done += len(records)
            writer.write(_epoch_scalars(reader))
    return done


def _all_steps(reader: LedgerReader, progress: Progress | None) -> Iterator[list[StepRecord]]:
    with reader.snapshot():
        total, generation = reader.step_count(), reader.generation()
    done = 0
    for records in reader.iter_steps():
        yield records
        done += len(records)
        if progress is not None:
            progress(done, max(done, total))
    reader.check_uncut(generation)
    if done < total:
        raise LedgerError(
            f"The ledger is damaged: {total - done} of its steps are missing",
            subject=str(reader.path),
            hint="Restore it from a backup.",
        )


def _csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    lines = io.StringIO(newline="")
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue().encode()


def _csv_row(record: StepRecord) -> list[object]:
    row: dict[str, Any] = {name: getattr(record, name) for name in COLUMNS}
    row["sample_ids"] = json.dumps(record.sample_ids, ensure_ascii=False)
    row["outcome"] = record.outcome.value
    return [repr(value) if isinstance(value, float) else value for value in row.values()]


def _arrow_schema(meta: dict[str, str]) -> pa.Schema:
    import pyarrow as pa

    types: dict[str, Any] = dict.fromkeys(STEPS.floats, pa.float64())
    types |= dict.fromkeys(STEPS.integers, pa.int64())
    types |= dict.fromkeys(STEPS.texts, pa.string()) | {"sample_ids": pa.list_(pa.string())}
    fields = [pa.field(name, types[name], nullable=False) for name in COLUMNS]
    return pa.schema(fields, metadata={"signscope.ledger": json.dumps(meta)})


def _arrow_table(records: list[StepRecord], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records] for name in COLUMNS
    }
    columns["outcome"] = [outcome.value for outcome in columns["outcome"]]
    arrays = [
        pa.array(columns[name], schema.field(name).type, from_pandas=False) for name in COLUMNS
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _scalars(record: StepRecord) -> dict[str, float]:
    # TensorBoard has the step and the wall time of every value anyway.
    names = [name for name in (*STEPS.floats, *STEPS.integers) if name not in ("step", "wall_time")]
    values = {f"batch/{name}": float(getattr(record, name)) for name in names}
    values["batch/applied"] = float(record.outcome.applied)
    return values


def _epoch_scalars(reader: LedgerReader) -> list[tuple[int, float, dict[str, float]]]:
    events = []
    last_of: dict[int, tuple[int, float]] = {}
    end = 0
    for record in reader.epochs():
        end += record.batches
        last_of[record.epoch] = (end - 1, record.wall_time)
        events.append((end - 1, record.wall_time, {"epoch/avg_loss": record.avg_loss}))
    for epoch, evaluation in reader.evaluations():
        step, wall_time = last_of.get(epoch, (max(end - 1, 0), 0.0))
        split = evaluation.split
        values = {f"{split}/wer": evaluation.errors.wer, f"{split}/loss": evaluation.loss}
        events.append((step, wall_time, values))
    return events
