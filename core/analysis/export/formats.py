"""A run in any format that it can be exported to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from core.analysis.export.html import report_html
from core.analysis.export.tables import (
    Progress,
    export_csv,
    export_parquet,
    export_tensorboard,
)
from signscope.folder import RunFolder
from signscope.reader import LedgerReader, until_uncut

Format = Literal["csv", "parquet", "tensorboard", "html"]


def export_run(
    run: Path,
    target: Path,
    kind: Format | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Export the run in folder ``run`` to ``target`` and give ``target`` back.

    Args:
        run: A run folder, also one that is being trained.
        target: A file; for TensorBoard a folder.
        kind: What to write. None takes it from the name: .csv, .parquet, .html, else TensorBoard.
        overwrite: Whether an existing target is replaced.
        progress: See Progress.

    Raises:
        ExportError: The target exists, or cannot be written (its old content is then whole).
        LedgerError: The ledger is missing or damaged.
    """
    kind = kind or _kind_of(target)
    if kind == "html":
        return report_html(run, target, overwrite=overwrite)
    writers = {"csv": export_csv, "parquet": export_parquet, "tensorboard": export_tensorboard}
    with LedgerReader(RunFolder(run).ledger_path) as reader:
        # A run that is resumed meanwhile cuts rows: the target then holds nothing yet.
        until_uncut(lambda: writers[kind](reader, target, overwrite=overwrite, progress=progress))
    return target


def _kind_of(target: Path) -> Format:
    kinds: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".html": "html"}
    return kinds.get(target.suffix.lower(), "tensorboard")
