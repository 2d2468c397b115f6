"""Import of ``MP_Data/<label>/<sequence>/<frame>.npy``, the layout of many public recordings.

A frame is one vector of 258 numbers, float32 or float64, as ``core.landmarks.layout.from_values``
describes it. Nothing is ever unpickled. Every file is read once and its header looked up among those
seen before, since they are thousands and nearly all alike.
"""

from __future__ import annotations

import contextlib
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

from core.corpus.format import Sample, is_litter, printable
from core.corpus.writer import CorpusWriter
from core.errors import ConfigError, CorpusError, MalformedInputError
from core.landmarks.layout import LARGEST_VALUE, VALUES, from_values
from signscope.files import open_regular

DEFAULT_FPS: Final = 25.0
"""Frames a second assumed for a layout that does not say."""

_COMMON_LENGTH_SHARE = 0.9
_LISTED = 5
_LAYOUT_HINT = (
    "Expected MP_Data/<label>/<sequence>/<frame>.npy, frames numbered from 0, each one vector of "
    f"{VALUES} float32 or float64 numbers. Record the sequence again, or leave it out with --skip-bad."
)
_LARGEST_READ: Final = 2**16
"""Bytes read of a frame: a sound one has some 2 kB, of a longer one the header is enough to say what it is."""

_HEADER_READERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # Differs from 2.0 in names of fields beyond Latin-1, which plain numbers do not have.
    (3, 0): np.lib.format.read_array_header_2_0,
}

_SIGNER_RANGE = re.compile(r"\s*([^=,\s][^=,]*?)\s*=\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?")


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
    if text != printable(text):
        raise _wrong_signers(printable(text), "a name is not UTF-8")
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
    bad = _LeftOutSequences(skip_bad)
    sequences = list(_find_sequences(Path(src), signers, bad))
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
                bad.add(error)
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
            raise _nothing_imported(src, bad)
    return ImportReport(imported, tuple(bad.entries))


class _LeftOutSequences:
    """What was malformed: kept for the report, or raised at once."""

    def __init__(self, skip_bad: bool) -> None:
        self._skip_bad = skip_bad
        self.entries: list[LeftOut] = []

    def add(self, error: MalformedInputError) -> None:
        if not self._skip_bad:
            raise error
        self.entries.append(LeftOut(Path(error.subject), error.what))


def _nothing_imported(src: Path, bad: _LeftOutSequences) -> CorpusError:
    if not bad.entries:
        return CorpusError(
            "There are no sequences to import", subject=printable(str(src)), hint=_LAYOUT_HINT
        )
    first = bad.entries[0]
    return CorpusError(
        f"Nothing was imported, all {len(bad.entries)} sequences are malformed",
        subject=printable(str(src)),
        hint=f"The first: {first.path}: {first.reason}.",
    )


def _find_sequences(
    src: Path, signers: Mapping[str, Sequence[range]], bad: _LeftOutSequences
) -> Iterator[_Sequence]:
    """Give all sequences sorted by label and number; what is odd goes into ``bad``."""
    found: dict[tuple[str, int], Path] = {}
    for folder in _sequence_folders(src, bad):
        key = (folder.parent.name, int(folder.name))
        if key in found:
            bad.add(_malformed(folder, f"found sequence {key[1]} twice", "each sequence once"))
        else:
            found[key] = folder
    if not found:
        raise _nothing_imported(src, bad)
    owner = {number: _owner(number, signers) for number in {number for _, number in found}}
    unowned = [found[key] for key in sorted(found) if owner[key[1]] is None]
    if unowned:
        listed = ", ".join(str(path.relative_to(src)) for path in unowned[:_LISTED])
        more = f" and {len(unowned) - _LISTED} more" if len(unowned) > _LISTED else ""
        raise CorpusError(
            f"{len(unowned)} sequences belong to no signer: {listed}{more}",
            subject=printable(str(src)),
            hint="Name the signer of every sequence number, as in --signers S1=0-29,S2=30-59.",
        )
    for (label, number), path in sorted(found.items()):
        signer = owner[number]
        assert signer is not None
        yield _Sequence(label, number, path, signer)


def _owner(number: int, signers: Mapping[str, Sequence[range]]) -> str | None:
    return next((name for name, of in signers.items() if any(number in r for r in of)), None)


def _sequence_folders(src: Path, bad: _LeftOutSequences) -> Iterator[Path]:
    """Give the folders of all labels that a number names."""
    try:
        labels = _folders(src)
    except MalformedInputError as error:
        raise CorpusError(error.what, subject=error.subject, hint=error.hint) from error
    for label in labels:
        try:
            if label.name != printable(label.name):
                raise _malformed(label, "found a label that is not UTF-8", "text")
            folders = _folders(label)
        except MalformedInputError as error:
            bad.add(error)
            continue
        for folder in folders:
            if folder.name.isascii() and folder.name.isdigit():
                yield folder
            else:
                bad.add(_malformed(folder, f"found {folder.name!r}", "the number of a sequence"))


def _folders(path: Path) -> list[Path]:
    with _readable(path):
        return sorted(e for e in path.iterdir() if not is_litter(e.name) and e.is_dir())


def _frame_files(folder: Path) -> dict[int, str]:
    """Give the frames of a sequence by number. Paths are text here: thousands of Path objects are slow."""
    frames: dict[int, str] = {}
    for name in _npy_names(folder):
        stem = name[:-4]
        file = f"{folder}/{name}"
        if not (stem.isascii() and stem.isdigit()):
            raise _malformed(file, f"found the name {printable(name)!r}", "the number of a frame")
        if int(stem) in frames:
            raise _malformed(file, f"found frame {int(stem)} twice", "each frame once")
        frames[int(stem)] = file
    return frames


def _npy_names(folder: Path) -> list[str]:
    with _readable(folder):
        return [n for n in os.listdir(folder) if n.endswith(".npy") and not is_litter(n)]  # noqa: PTH208


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        why = getattr(error, "strerror", None) or error
        raise _malformed(
            folder, f"the folder cannot be read ({why})", "a folder of folders or frames"
        ) from error


def _common_length(sequences: Sequence[_Sequence]) -> int:
    """Give the number of frames that nearly all sequences have, 0 when there is no such number.

    A missing last frame leaves no gap; it shows only in comparison with the other sequences.
    """
    lengths: Counter[int] = Counter()
    for sequence in sequences:
        with contextlib.suppress(MalformedInputError):  # said when it is read
            lengths[len(_npy_names(sequence.path))] += 1
    length, count = max(lengths.items(), key=lambda item: item[1], default=(0, 0))
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
        with np.errstate(over="ignore", invalid="ignore"):  # too large for float32: found below
            for number in range(count):
                values_TV[number] = self._read_frame(files[number])
        sound_TV = np.abs(values_TV) <= LARGEST_VALUE
        if not sound_TV.all():
            number, place = np.argwhere(~sound_TV)[0].tolist()
            value = values_TV[number, place]
            expected = (
                f"numbers within {LARGEST_VALUE:g}, in fractions of the image"
                if np.isfinite(value)
                else "finite numbers, zeros where undetected"
            )
            raise _malformed(files[number], f"found {value} at value {place}", expected)
        return values_TV

    def _read_frame(self, file: str) -> npt.NDArray[np.floating]:
        try:
            with open_regular(file) as stream:
                found = os.fstat(stream.fileno()).st_size
                content = stream.raw.read(min(found, _LARGEST_READ)) or b""
        except OSError as error:
            raise _malformed(file, f"it cannot be read ({error.strerror})", "a file") from error
        header = self._header(file, content)
        size = header.offset + VALUES * header.dtype.itemsize
        if found != size or len(content) != size:
            what = "it is truncated, found" if min(found, len(content)) < size else "found"
            raise _malformed(file, f"{what} {found} bytes", f"{size}")
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
    major, minor = content[6:7], content[7:8]
    if minor and (major[0], minor[0]) not in _HEADER_READERS:
        raise _malformed(
            file, f"found version {major[0]}.{minor[0]} of the .npy format", "1.0, 2.0 or 3.0"
        )
    try:
        shape, _, dtype = _HEADER_READERS[np.lib.format.read_magic(stream)](stream)
    # numpy promises ValueError alone, but lets through whatever its tokenizer and Python's parser raise.
    except Exception as error:
        raise _malformed(file, "found a damaged or truncated header", "an .npy file") from error
    if dtype.hasobject:
        raise _malformed(file, "found a pickled object, which is never loaded", "plain numbers")
    return _Header(dtype, shape, stream.tell())


def _malformed(path: Path | str, found: str, expected: str) -> MalformedInputError:
    return MalformedInputError(
        f"A recording is malformed: {found}, expected {expected}",
        subject=printable(str(path)),
        hint=_LAYOUT_HINT,
    )


def _wrong_signers(text: str, what: str) -> ConfigError:
    return ConfigError(
        f"The signers cannot be understood: {what}",
        subject=text,
        hint="Write them as S1=0-29,S2=30-59: name, first and last sequence number.",
    )
