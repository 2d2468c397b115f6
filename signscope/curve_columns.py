"""The numbers of a step that curves are drawn from: names, types, and how records become columns.

float32 is exact for everything that training computes in float32 (loss, norms, clip coefficient) and
within 6e-8 of the rest; times since the epoch and step numbers keep their full width. The exact
float64 numbers of every batch are in the ledger's rows. A finite float64 beyond 3.4e38 becomes
infinite here, and is then shown as non-finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from signscope.records import Outcome, StepRecord

AnyArray = npt.NDArray[np.generic]
Columns = dict[str, AnyArray]

OUTCOMES: tuple[Outcome, ...] = tuple(Outcome)
"""Outcomes by their code in the column ``outcome``; new ones are only ever added at the end."""

_CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}

FLOAT_COLUMNS = (
    "loss",
    "loss_per_gloss",
    "grad_norm_pre",
    "grad_norm_post",
    "clip_coef",
    "lr",
    "blank_fraction",
    "data_s",
    "step_s",
    "memory_mib",
)
"""Columns kept as float32, named as in StepRecord."""

DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "step": np.dtype("<i4"),
    "epoch": np.dtype("<i4"),
    "wall_time": np.dtype("<f8"),
    **dict.fromkeys(FLOAT_COLUMNS, np.dtype("<f4")),
    "outcome": np.dtype("u1"),  # index into OUTCOMES
    "clipped": np.dtype("u1"),  # 1 where clipping made the gradient smaller
}
"""Every column and its type: 58 bytes a step together."""

_NUMBERS = ("step", "epoch", "wall_time", *FLOAT_COLUMNS)
_numbers_of = attrgetter(*_NUMBERS)


def columns_of(records: Sequence[StepRecord]) -> Columns:
    """Give the columns of ``records``, each an array (N,) of its type in DTYPES."""
    if not records:
        return {name: np.empty(0, dtype) for name, dtype in DTYPES.items()}
    numbers_NC = np.array([_numbers_of(record) for record in records], np.float64)
    with np.errstate(over="ignore"):  # beyond float32: infinite, as the docstring says
        columns: Columns = {
            name: numbers_NC[:, place].astype(DTYPES[name]) for place, name in enumerate(_NUMBERS)
        }
    codes = [_CODES[record.outcome] for record in records]
    columns["outcome"] = np.array(codes, DTYPES["outcome"])
    clip_coef_N = numbers_NC[:, _NUMBERS.index("clip_coef")]
    columns["clipped"] = (clip_coef_N < 1.0).astype(DTYPES["clipped"])
    return columns


def pack(columns: Columns) -> bytes:
    """Lay the columns one behind the other, in the order of DTYPES."""
    return b"".join(columns[name].astype(dtype).tobytes() for name, dtype in DTYPES.items())


def unpack(data: bytes, rows: int) -> Columns:
    """Give the columns that :func:`pack` laid down, as views of ``data``.

    Raises:
        ValueError: ``data`` does not hold ``rows`` steps.
    """
    if len(data) != rows * sum(dtype.itemsize for dtype in DTYPES.values()):
        raise ValueError(f"{len(data)} bytes do not hold {rows} steps")
    columns: Columns = {}
    offset = 0
    for name, dtype in DTYPES.items():
        columns[name] = np.frombuffer(data, dtype, rows, offset)
        offset += rows * dtype.itemsize
    return columns
