"""What a run can be exported as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LedgerKind = Literal["csv", "parquet", "tensorboard", "html"]


@dataclass(frozen=True, slots=True)
class ExportKind:
    """One kind of export, as the dialog lists it."""

    key: str
    title: str
    text: str
    suffix: str
    ledger: LedgerKind | None = None  # None: a picture of the plots


KINDS = (
    ExportKind("png", "Picture (PNG)", "The plots as the window shows them now", ".png"),
    ExportKind("svg", "Picture (SVG)", "The same as lines and text, sharp at any size", ".svg"),
    ExportKind("csv", "Table (CSV)", "One line for every batch, nothing left out", ".csv", "csv"),
    ExportKind(
        "parquet", "Table (Parquet)", "The same, smaller and quicker to read", ".parquet", "parquet"
    ),
    ExportKind(
        "tensorboard",
        "TensorBoard",
        "A log folder with every batch, values not rounded",
        "-tensorboard",
        "tensorboard",
    ),
    ExportKind(
        "html",
        "Report (HTML)",
        "One page with curves, epochs, settings and findings; opens offline",
        ".html",
        "html",
    ),
)
