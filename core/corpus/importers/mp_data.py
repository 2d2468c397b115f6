"""Import of ``MP_Data/<label>/<sequence>/<frame>.npy``, the layout of many public recordings.

A frame is one vector of 258 numbers, float32 or float64, as ``core.landmarks.layout.from_values``
describes it. Nothing is ever unpickled. Every file is read once and its header looked up among those
seen before, since they are thousands and nearly all alike.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from core.corpus.format import Sample
from core.corpus.writer import CorpusWriter
from core.errors import ConfigError, CorpusError, MalformedInputError
from core.landmarks.layout import VALUES, from_values

DEFAULT_FPS: Final = 25.0
"""Frames a second assumed for a layout that does not say."""

_COMMON_LENGTH_SHARE = 0.9
_LISTED = 5
_LAYOUT_HINT = (
    "Expected MP_Data/<label>/<sequence>/<frame>.npy, frames numbered from 0, each one vector of "
    f"{VALUES} float32 or float64 numbers. Record the sequence again, or leave it out with --skip-bad."
)
_SIGNER_RANGE = re.compile(r"\s*([^=,\s][^=,]*?)\s*=\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sequence or file that was not imported, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did."""

    imported: int
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class _Sequence:
    label: str
    number: int
    path: Path
    signer: str


@dataclass(frozen=True, slots=True)
class _Header:
    """What an .npy header says, and how many bytes it takes."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int


def parse_signers(text: str) -> dict[str, tuple[range, ...]]:
    """Read ``"S1=0-29,S2=30-59"``: which sequence numbers are whose; both ends are included.

    A signer may come more than once, and a single number is a range of one.

    Raises:
        ConfigError: The text is of another form, a range is empty, or two signers claim one number.
    """
    signers: dict[str, tuple[range, ...]] = {}
    owners: list[tuple[str, range]] = []
    for part in text.split(","):
        match = _SIGNER_RANGE.fullmatch(part)
        if match is None:
            raise _wrong_signers(text, f"{part.strip()!r} is not NAME=FIRST-LAST")
        name, first, last = match[1], int(match[2]), int(match[3] or match[2])
        if last < first:
            raise _wrong_signers(text, f"{part.strip()!r} ends before it begins")
        numbers = range(first, last + 1)
        for owner, other in owners:
            if max(numbers.start, other.start) < min(numbers.stop, other.stop):
                raise _wrong_signers(text, f"{name} and {owner} claim the same sequences")
        owners.append((name, numbers))
        signers[name] = (*signers.get(name, ()), numbers)
    return signers


def import_mp_data(
    src: Path,
    out: Path,
    *,
    signers: Mapping[str, Sequence[range]],
    fps: float = DEFAULT_FPS,
    name: str | None = None,
    note: str = "",
    skip_bad: bool = False,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Import a recording in the MP_Data layout as a corpus with one sample a sequence.

    Args:
        src: Folder of labels.
        out: Folder of the corpus to write.
        signers: Sequence numbers of each signer, the same for every label; see :func:`parse_signers`.
        fps: Frames a second of the recording.
        name: Name of the corpus; the folder's when left out.
        note: Origin and licence.
        skip_bad: Import the rest when something is malformed, and list it in the report.
        replace: Whether a corpus at ``out`` may be replaced.
        progress: Called with sequences done and in all.

    Raises:
        MalformedInputError: A file is not what the layout promises; names the file, what was found and
            what was expected. Nothing was written then.
        CorpusError: There is nothing to import, a sequence belongs to no signer, or ``out`` cannot be
            written.
    """
    bad: list[LeftOut] = []
    sequences = list(_find_sequences(Path(src), signers, bad, skip_bad=skip_bad))
    reader = _FrameReader()
    expected_frames = _common_length(sequences)
    imported = 0
    with CorpusWriter(
        out, name=name or Path(src).resolve().name, note=note, replace=replace
    ) as writer:
        for done, sequence in enumerate(sequences, 1):
            try:
                values_TV = reader.read_sequence(sequence.path, expected_frames)
            except MalformedInputError as error:
                if not skip_bad:
                    raise
                bad.append(LeftOut(Path(error.subject), error.what))
            else:
                writer.add(
                    Sample(
                        id=f"{sequence.signer}/{sequence.label}/{sequence.number}",
                        signer=sequence.signer,
                        glosses=(sequence.label,),
                        fps=fps,
                        landmarks_TKC=from_values(values_TV),
                        source=f"{sequence.label}/{sequence.number}",
                    )
                )
                imported += 1
            if progress is not None:
                progress(done, len(sequences))
        if not imported:
            raise CorpusError(
                f"Nothing was imported, all {len(bad)} sequences are malformed",
                subject=str(src),
                hint=f"The first: {bad[0].path}: {bad[0].reason}." if bad else _LAYOUT_HINT,
            )
    return ImportReport(imported, tuple(bad))


def _find_sequences(
    src: Path, signers: Mapping[str, Sequence[range]], bad: list[LeftOut], *, skip_bad: bool
) -> Iterator[_Sequence]:
    """Give all sequences sorted by label and number; odd folders are errors or go into ``bad``."""
    found: list[tuple[str, int, Path]] = []
    for label in _folders(src):
        for folder in _folders(label):
            if folder.name.isascii() and folder.name.isdigit():
                found.append((label.name, int(folder.name), folder))
                continue
            error = _malformed(folder, f"found {folder.name!r}", "the number of a sequence")
            if not skip_bad:
                raise error
            bad.append(LeftOut(folder, error.what))
    if not found:
        raise CorpusError("There are no sequences to import", subject=str(src), hint=_LAYOUT_HINT)
    found.sort(key=lambda entry: entry[:2])
    owner = {number: name for name, ranges in signers.items() for r in ranges for number in r}
    unowned = [path for _, number, path in found if number not in owner]
    if unowned:
        listed = ", ".join(str(path.relative_to(src)) for path in unowned[:_LISTED])
        more = f" and {len(unowned) - _LISTED} more" if len(unowned) > _LISTED else ""
        raise CorpusError(
            f"{len(unowned)} sequences belong to no signer: {listed}{more}",
            subject=str(src),
            hint="Name the signer of every sequence number, as in --signers S1=0-29,S2=30-59.",
        )
    for label_name, number, path in found:
        yield _Sequence(label_name, number, path, owner[number])


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(e for e in path.iterdir() if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise CorpusError(
            f"The folder cannot be read ({error.strerror})", subject=str(path), hint=_LAYOUT_HINT
        ) from error


def _frame_files(folder: Path) -> dict[int, str]:
    """Give the frames of a sequence by number. Paths are text here: thousands of Path objects are slow."""
    frames: dict[int, str] = {}
    for name in _npy_names(folder):
        stem = name[:-4]
        file = f"{folder}/{name}"
        if not (stem.isascii() and stem.isdigit()):
            raise _malformed(file, f"found the name {name!r}", "the number of a frame")
        if int(stem) in frames:
            raise _malformed(file, f"found frame {int(stem)} twice", "each frame once")
        frames[int(stem)] = file
    return frames


def _npy_names(folder: Path) -> list[str]:
    return [n for n in os.listdir(folder) if n.endswith(".npy") and not n.startswith(".")]  # noqa: PTH208


def _common_length(sequences: Sequence[_Sequence]) -> int:
    """Give the number of frames that nearly all sequences have, 0 when there is no such number.

    A missing last frame leaves no gap; it shows only in comparison with the other sequences.
    """
    lengths = Counter(len(_npy_names(sequence.path)) for sequence in sequences)
    length, count = lengths.most_common(1)[0]
    return length if count >= _COMMON_LENGTH_SHARE * len(sequences) else 0


class _FrameReader:
    """Reads frames; keeps the headers it has understood."""

    def __init__(self) -> None:
        self._headers: dict[bytes, _Header] = {}

    def read_sequence(self, folder: Path, expected_frames: int) -> npt.NDArray[np.float32]:
        """Give the frames of one sequence, (T, 258) float32; raises MalformedInputError."""
        files = _frame_files(folder)
        if not files:
            raise _malformed(folder, "found no frames", "at least one")
        count = max(len(files), expected_frames)
        missing = next((n for n in range(count) if n not in files), None)
        if missing is not None:
            last = max(count - 1, max(files))
            raise _malformed(
                folder / f"{missing}.npy",
                f"found no frame {missing}",
                f"frames 0 to {last} without a gap",
            )
        values_TV = np.empty((count, VALUES), dtype=np.float32)
        for number in range(count):
            values_TV[number] = self._read_frame(files[number])
        finite_T = np.isfinite(values_TV).all(axis=1)
        if not finite_T.all():
            number = int(np.argmin(finite_T))
            place = int(np.argmin(np.isfinite(values_TV[number])))
            found = f"found {values_TV[number, place]} at value {place}"
            raise _malformed(files[number], found, "finite numbers, zeros where undetected")
        return values_TV

    def _read_frame(self, file: str) -> npt.NDArray[np.floating]:
        try:
            with open(file, "rb", buffering=0) as stream:  # noqa: PTH123  half the time of Path.open
                content = stream.read()
        except OSError as error:
            raise _malformed(file, f"it cannot be read ({error.strerror})", "a file") from error
        header = self._header(file, content)
        size = header.offset + VALUES * header.dtype.itemsize
        if len(content) != size:
            what = "it is truncated, found" if len(content) < size else "found"
            raise _malformed(file, f"{what} {len(content)} bytes", f"{size}")
        values: npt.NDArray[np.floating] = np.frombuffer(
            content, header.dtype, VALUES, header.offset
        )
        return values

    def _header(self, file: str, content: bytes) -> _Header:
        # Version 1.0 of the format: 6 bytes magic, 2 version, 2 length of the text, the text.
        known = self._headers.get(content[: 10 + int.from_bytes(content[8:10], "little")])
        if known is not None:
            return known
        header = _parse_header(file, content)
        if header.dtype.kind != "f" or header.dtype.itemsize not in (4, 8):
            raise _malformed(file, f"found dtype {header.dtype}", "float32 or float64")
        if header.shape != (VALUES,):
            raise _malformed(file, f"found shape {header.shape}", f"({VALUES},)")
        self._headers[content[: header.offset]] = header
        return header


def _parse_header(file: str, content: bytes) -> _Header:
    stream = io.BytesIO(content)
    if not content.startswith(np.lib.format.MAGIC_PREFIX):
        if content.startswith(b"\x80"):
            raise _malformed(file, "found a pickled object, which is never loaded", "plain numbers")
        raise _malformed(file, f"found {content[:6]!r} at its beginning", "an .npy file")
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(stream)
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise _malformed(file, "found a damaged or truncated header", "an .npy file") from error
    if dtype.hasobject:
        raise _malformed(file, "found a pickled object, which is never loaded", "plain numbers")
    return _Header(dtype, shape, stream.tell())


def _malformed(path: Path | str, found: str, expected: str) -> MalformedInputError:
    return MalformedInputError(
        f"A recording is malformed: {found}, expected {expected}",
        subject=str(path),
        hint=_LAYOUT_HINT,
    )


def _wrong_signers(text: str, what: str) -> ConfigError:
    return ConfigError(
        f"The signers cannot be understood: {what}",
        subject=text,
        hint="Write them as S1=0-29,S2=30-59: name, first and last sequence number.",
    )
