"""TensorBoard's event files, with values as float64.

A file is a sequence of records: length (8 bytes), its masked CRC-32C, data, the data's masked CRC-32C
(tensorflow/core/lib/io/record_writer.h). The data is an Event message; tensorboardX brings the
message types. Its own writer rounds to float32 and computes each checksum in plain Python (0.3
microseconds a byte); here the checksums of many records are computed together by numpy.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_AT_ONCE = 4096
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bits reversed

Words = npt.NDArray[np.uint32]


def _make_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _bit in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _make_table()


def masked_checksums(records: Sequence[bytes]) -> Words:
    """Give the masked CRC-32C of each of ``records``, as the format wants them."""
    lengths = np.array([len(record) for record in records])
    order = np.argsort(-lengths, kind="stable")
    byte_NL = np.zeros((len(records), int(lengths.max(initial=0))), np.uint8)
    for row, place in enumerate(order):
        byte_NL[row, : lengths[place]] = np.frombuffer(records[place], np.uint8)
    column_LN = np.ascontiguousarray(byte_NL.T)
    crc = np.full(len(records), 0xFFFFFFFF, np.uint32)
    reaching = np.searchsorted(-lengths[order], -np.arange(len(column_LN)), side="left")
    for column, count in zip(column_LN, reaching, strict=True):  # the longest records come first
        part = crc[:count]
        crc[:count] = _TABLE[(part ^ column[:count]) & 0xFF] ^ (part >> 8)
    crc ^= np.uint32(0xFFFFFFFF)
    masked = np.empty_like(crc)
    masked[order] = ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
    return masked


class EventWriter:
    """Writes scalars to one event file.

    Args:
        file: Where to; the caller closes it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._known: set[str] = set()
        from tensorboardX.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2

        self._event: Any = event_pb2.Event
        self._value: Any = summary_pb2.Summary.Value
        self._tensor: Any = tensor_pb2.TensorProto
        self._double = types_pb2.DT_DOUBLE
        opening = self._event(wall_time=time.time(), file_version="brain.Event:2")
        self._write_records([opening.SerializeToString()])

    def write(self, events: Iterable[tuple[int, float, Mapping[str, float]]]) -> None:
        """Add events, each (step, wall time, value by tag)."""
        records: list[bytes] = []
        for step, wall_time, values in events:
            event = self._event(step=step, wall_time=wall_time)
            event.summary.value.extend(self._scalar(tag, value) for tag, value in values.items())
            records.append(event.SerializeToString())
            if len(records) == _AT_ONCE:
                self._write_records(records)
                records.clear()
        if records:
            self._write_records(records)

    def _scalar(self, tag: str, value: float) -> Any:
        scalar = self._value(tag=tag, tensor=self._tensor(dtype=self._double, double_val=[value]))
        if (
            tag not in self._known
        ):  # TensorBoard reads which plugin shows a tag from its first value
            self._known.add(tag)
            scalar.metadata.plugin_data.plugin_name = "scalars"
        scalar.tensor.tensor_shape.SetInParent()
        return scalar

    def _write_records(self, records: list[bytes]) -> None:
        lengths = [struct.pack("<Q", len(record)) for record in records]
        checksums = zip(masked_checksums(lengths), masked_checksums(records), strict=True)
        for length, record, (of_length, of_record) in zip(lengths, records, checksums, strict=True):
            self._file.write(length + struct.pack("<I", of_length))
            self._file.write(record + struct.pack("<I", of_record))
