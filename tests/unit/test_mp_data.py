"""Import of the MP_Data layout: exact values, every malformed kind named, nothing half written."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config import DataConfig
from core.corpus.batching import TrainingData
from core.corpus.importers.mp_data import ImportReport, import_mp_data, parse_signers
from core.corpus.reader import Corpus
from core.corpus.training_inputs import check_trainable
from core.errors import ConfigError, CorpusError, MalformedInputError
from core.landmarks.layout import LEFT_HAND, POSE, RIGHT_HAND, VALUES
from tests.unit.made_samples import to_values

FRAMES = 6
SIGNERS = {"S1": (range(3),), "S2": (range(3, 6),)}


def values_of(label: int, sequence: int, frame: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng([label, sequence, frame])
    return rng.uniform(0.1, 0.9, VALUES).astype(np.float32).astype(np.float64)


@pytest.fixture
def mp_data(tmp_path: Path) -> Path:
    """Two labels of six sequences of six frames."""
    root = tmp_path / "MP_Data"
    for label, name in enumerate(("hello", "thank you")):
        for sequence in range(6):
            folder = root / name / str(sequence)
            folder.mkdir(parents=True)
            for frame in range(FRAMES):
                np.save(folder / f"{frame}.npy", values_of(label, sequence, frame))
    return root


def run_import(src: Path, **options: Any) -> ImportReport:
    return import_mp_data(src, src.parent / "corpus", **{"signers": SIGNERS, **options})


def test_values_labels_and_signers_arrive(mp_data: Path) -> None:
    said: list[tuple[int, int]] = []
    report = run_import(mp_data, fps=30.0, note="n", progress=lambda *step: said.append(step))
    assert report == ImportReport(12, ())
    assert said == [(n, 12) for n in range(1, 13)]
    corpus = Corpus.open(mp_data.parent / "corpus")
    check_trainable(corpus)
    assert (corpus.name, corpus.note, corpus.synthetic) == ("MP_Data", "n", False)
    assert corpus.glosses == ("hello", "thank you")
    assert corpus.signers == ("S1", "S2")
    sample = corpus[corpus.ids.index("S2/thank you/4")]
    assert (sample.signer, sample.glosses, sample.fps) == ("S2", ("thank you",), 30.0)
    expected = np.stack([values_of(1, 4, frame) for frame in range(FRAMES)])
    np.testing.assert_array_equal(to_values(sample.landmarks_TKC), expected.astype(np.float32))


def test_an_undetected_part_becomes_missing(mp_data: Path) -> None:
    file = mp_data / "hello" / "0" / "2.npy"
    values = np.load(file)
    values[132 : 132 + 63] = 0
    np.save(file, values)
    run_import(mp_data)
    landmarks_TKC = Corpus.open(mp_data.parent / "corpus")[0].landmarks_TKC
    assert np.isnan(landmarks_TKC[2, LEFT_HAND]).all()
    assert np.isfinite(landmarks_TKC[2, POSE]).all()
    assert np.isfinite(landmarks_TKC[2, RIGHT_HAND]).all()
    assert np.isfinite(landmarks_TKC[[0, 1, 3, 4, 5]]).all()


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8"])
def test_single_and_double_precision_are_read(mp_data: Path, dtype: str) -> None:
    for file in mp_data.rglob("*.npy"):
        np.save(file, np.load(file).astype(dtype))
    assert run_import(mp_data).imported == 12
    found = to_values(Corpus.open(mp_data.parent / "corpus")[0].landmarks_TKC)[0]
    np.testing.assert_array_equal(found, values_of(0, 0, 0).astype(np.float32))


def test_sequences_come_in_the_order_of_their_numbers_and_other_files_are_ignored(
    mp_data: Path,
) -> None:
    (mp_data / "hello" / "2").rename(mp_data / "hello" / "10")
    (mp_data / ".DS_Store").write_bytes(b"x")
    (mp_data / "hello" / ".cache").mkdir()
    (mp_data / "hello" / "10" / "notes.txt").write_text("x")
    run_import(mp_data, signers={"S1": (range(11),)})
    ids = Corpus.open(mp_data.parent / "corpus").ids
    assert ids[:6] == tuple(f"S1/hello/{n}" for n in (0, 1, 3, 4, 5, 10))


BROKEN = Path("hello") / "1" / "3.npy"


def rewrite(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda file: np.save(file, change(np.load(file)))


def put_nan(values: Any) -> Any:
    values[7] = np.nan
    return values


def cut(size: int) -> Callable[[Path], None]:
    def cut_file(file: Path) -> None:
        file.write_bytes(file.read_bytes()[:size])

    return cut_file


def save_object(file: Path) -> None:
    np.save(file, np.array([{"x": 1}], dtype=object), allow_pickle=True)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def put(value: float) -> Callable[[Path], None]:
    def put_value(file: Path) -> None:
        values = np.load(file)
        values[7] = value
        np.save(file, values)

    return put_value


def put_header(text: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        header = text.encode() + b"\n"
        length = len(header).to_bytes(2, "little")
        file.write_bytes(b"\x93NUMPY\x01\x00" + length + header + file.read_bytes()[128:])

    return write


def put_version(major: int) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[:6] + bytes([major]) + content[7:])

    return write


def link_to(target: str) -> Callable[[Path], None]:
    def link(file: Path) -> None:
        file.unlink()
        file.symlink_to(target)

    return link


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


MALFORMED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing frame": (Path.unlink, r"found no frame 3, expected frames 0 to 5 without a gap"),
    "wrong length": (rewrite(lambda v: v[:-1]), r"found shape \(257,\), expected \(258,\)"),
    "face included": (rewrite(lambda v: np.zeros(1662)), r"found shape \(1662,\), expected"),
    "wrong shape": (rewrite(lambda v: v[None]), r"found shape \(1, 258\), expected \(258,\)"),
    "integers": (rewrite(lambda v: v.astype(np.int64)), "found dtype int64, expected float32"),
    "half precision": (rewrite(lambda v: v.astype(np.float16)), "found dtype float16"),
    "text": (rewrite(lambda v: v.astype(str)), "found dtype <U"),
    "not a number": (rewrite(put_nan), "found nan at value 7, expected finite numbers"),
    "infinite": (rewrite(lambda v: v * np.inf), "found inf at value 0, expected finite"),
    "too large": (rewrite(lambda v: v * 1e300), "found inf at value 0, expected finite"),
    "truncated": (cut(500), "truncated, found 500 bytes, expected 2192"),
    "truncated header": (cut(40), "damaged or truncated header"),
    "empty file": (cut(0), "expected an .npy file"),
    "too long": (lambda f: f.write_bytes(f.read_bytes() + b"x"), "found 2193 bytes, expected 2192"),
    "object array": (save_object, "a pickled object, which is never loaded"),
    "pickle": (lambda f: f.write_bytes(pickle.dumps([1])), "a pickled object, which is never"),
    "other file": (lambda f: f.write_bytes(b"PK\x03\x04zip"), r"found b'PK.*expected an .npy file"),
    "odd name": (lambda f: f.rename(f.with_name("last.npy")), "found the name 'last.npy'"),
    "number twice": (lambda f: f.rename(f.with_name("04.npy")), "found frame 4 twice"),
    "folder": (make_folder, "not a regular file"),
    "absurd": (put(1e30), r"found 1.*e\+30 at value 7, expected numbers within 100, in fractions"),
    "pixels": (put(640.0), "found 640.0 at value 7, expected numbers within 100, in fractions of"),
    "unclosed header": (
        put_header("{'descr': '<f8', 'shape': (258,)"),
        "damaged or truncated head",
    ),
    "unclosed text": (put_header("{'descr': '<f8"), "damaged or truncated header"),
    "nested header": (put_header("(" * 5000), "damaged or truncated header"),
    "5000 digits": (
        put_header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}"),
        "damaged or truncated header",
    ),
    "an exabyte": (
        put_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,)}"),
        r"found shape \(1152921504606846976,\)",
    ),
    "version 9": (put_version(9), "found version 9.0 of the .npy format, expected 1.0, 2.0 or 3.0"),
    "50 gigabytes": (
        lambda f: os.truncate(f, 50 * 10**9),
        "found 50000000000 bytes, expected 2192",
    ),
    "link to /dev/zero": (link_to("/dev/zero"), "not a regular file"),
    "pipe": (make_pipe, "not a regular file"),
    "link to itself": (link_to("3.npy"), "it cannot be read"),
}


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_malformed_input_is_named_and_can_be_left_out(mp_data: Path, kind: str) -> None:
    spoil, message = MALFORMED[kind]
    spoil(mp_data / BROKEN)
    with pytest.raises(MalformedInputError, match=message) as caught:
        run_import(mp_data)
    assert Path(caught.value.subject).parent == mp_data / BROKEN.parent
    assert "--skip-bad" in caught.value.hint
    with pytest.raises(CorpusError):
        Corpus.open(mp_data.parent / "corpus")

    report = run_import(mp_data, skip_bad=True)
    assert report.imported == 11
    (left,) = report.left_out
    assert str(left.path) == caught.value.subject
    assert left.reason == caught.value.what
    ids = Corpus.open(mp_data.parent / "corpus").ids
    assert len(ids) == 11
    assert "S1/hello/1" not in ids


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_npy_format_is_read(mp_data: Path, version: tuple[int, int]) -> None:
    for file in mp_data.rglob("*.npy"):
        values = np.load(file)
        with file.open("wb") as stream:
            np.lib.format.write_array(stream, values, version)
    assert run_import(mp_data).imported == 12
    landmarks_TKC = Corpus.open(mp_data.parent / "corpus")[0].landmarks_TKC
    np.testing.assert_array_equal(
        landmarks_TKC[0, POSE].ravel(), values_of(0, 0, 0)[:132].astype("f4")
    )


def test_what_systems_leave_in_folders_is_no_recording(mp_data: Path) -> None:
    for folder in (mp_data, mp_data / "hello", mp_data / "hello" / "0", mp_data.parent / "corpus"):
        folder.mkdir(exist_ok=True)
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.npy"):
            (folder / name).write_bytes(b"x")
        (folder / ".Spotlight-V100").mkdir()
    assert run_import(mp_data) == ImportReport(12, ())


def test_a_number_that_two_sequences_have_leaves_out_one_of_them(mp_data: Path) -> None:
    shutil.copytree(mp_data / "hello" / "0", mp_data / "hello" / "00")
    with pytest.raises(MalformedInputError, match="found sequence 0 twice"):
        run_import(mp_data)
    report = run_import(mp_data, skip_bad=True)
    assert report.imported == 12
    assert [left.path for left in report.left_out] == [mp_data / "hello" / "00"]


def test_a_folder_that_cannot_be_read_is_named_and_can_be_left_out(
    mp_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests run as root, who may read everything: the refusal is made."""
    closed = {str(mp_data / "hello" / "3"), str(mp_data / "thank you")}

    def refusing(really: Callable[..., Any]) -> Callable[..., Any]:
        def listed(path: Any = ".") -> Any:
            if str(path) in closed:
                raise PermissionError(13, "Permission denied", str(path))
            return really(path)

        return listed

    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    with pytest.raises(MalformedInputError, match=r"cannot be read \(Permission denied\)"):
        run_import(mp_data)
    report = run_import(mp_data, skip_bad=True)
    assert report.imported == 5
    assert {str(left.path) for left in report.left_out} == closed
    assert all("Permission denied" in left.reason for left in report.left_out)


def test_a_label_that_is_not_utf_8_is_named_and_can_be_left_out(mp_data: Path) -> None:
    label = Path(os.fsdecode(os.fsencode(mp_data) + b"/h\xe9llo"))
    try:
        (mp_data / "hello").rename(label)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(MalformedInputError, match="a label that is not UTF-8") as caught:
        run_import(mp_data)
    caught.value.subject.encode()
    report = run_import(mp_data, skip_bad=True)
    assert report.imported == 6
    str(report.left_out[0].path).encode()


def test_the_folder_s_name_need_not_be_utf_8(mp_data: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(mp_data.parent) + b"/r\xe9cordings"))
    try:
        mp_data.rename(source)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert run_import(source).imported == 12


def test_a_path_with_nul_is_refused_in_a_sentence(mp_data: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        run_import(mp_data / "a\0b")
    with pytest.raises(CorpusError, match="cannot be written"):
        import_mp_data(mp_data, mp_data / "a\0b", signers=SIGNERS)


def test_ranges_of_thousands_of_millions_stay_ranges(mp_data: Path) -> None:
    tracemalloc.start()
    report = run_import(mp_data, signers=parse_signers("S1=0-2000000000,S2=2000000001-9000000000"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.imported == 12
    assert peak < 2**26


def test_a_missing_last_frame_shows_against_the_other_sequences(mp_data: Path) -> None:
    (mp_data / "hello" / "1" / f"{FRAMES - 1}.npy").unlink()
    with pytest.raises(MalformedInputError, match="found no frame 5, expected frames 0 to 5"):
        run_import(mp_data)


def test_sequences_of_different_lengths_are_fine(mp_data: Path) -> None:
    for sequence in range(4):
        (mp_data / "hello" / str(sequence) / f"{FRAMES - 1}.npy").unlink()
    assert run_import(mp_data).imported == 12


def test_an_empty_sequence_and_an_odd_folder_are_named(mp_data: Path) -> None:
    for file in (mp_data / "hello" / "0").iterdir():
        file.unlink()
    (mp_data / "hello" / "take two").mkdir()
    with pytest.raises(MalformedInputError, match="found 'take two', expected the number of a"):
        run_import(mp_data)
    report = run_import(mp_data, skip_bad=True)
    assert report.imported == 11
    assert [left.path.name for left in report.left_out] == ["take two", "0"]
    assert "found no frames" in report.left_out[1].reason


def test_sequences_without_a_signer_are_named(mp_data: Path) -> None:
    with pytest.raises(CorpusError, match="6 sequences belong to no signer") as caught:
        run_import(mp_data, signers={"S1": (range(3),)}, skip_bad=True)
    assert str(Path("hello") / "3") in caught.value.what
    assert "and 1 more" in caught.value.what


def test_nothing_to_import_is_said(tmp_path: Path, mp_data: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        run_import(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="no sequences"):
        run_import(tmp_path / "empty")
    for file in mp_data.rglob("0.npy"):
        file.unlink()
    with pytest.raises(CorpusError, match="all 12 sequences are malformed"):
        run_import(mp_data, skip_bad=True)


def test_a_failed_import_leaves_the_corpus_that_was_there(mp_data: Path) -> None:
    run_import(mp_data)
    before = Corpus.open(mp_data.parent / "corpus").fingerprint
    with pytest.raises(CorpusError, match="a corpus already"):
        run_import(mp_data)
    (mp_data / BROKEN).write_bytes(b"")
    with pytest.raises(MalformedInputError):
        run_import(mp_data, replace=True)
    assert Corpus.open(mp_data.parent / "corpus").fingerprint == before
    run_import(mp_data, replace=True, skip_bad=True)
    assert len(Corpus.open(mp_data.parent / "corpus")) == 11


def test_signers_are_read_from_text() -> None:
    assert parse_signers("S1=0-29, Ana B=30-59,S1=70") == {
        "S1": (range(30), range(70, 71)),
        "Ana B": (range(30, 60),),
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "NAME=FIRST-LAST"),
        ("S1", "NAME=FIRST-LAST"),
        ("S1=a-b", "NAME=FIRST-LAST"),
        ("=0-3", "NAME=FIRST-LAST"),
        ("S1=0-3,,S2=4-5", "NAME=FIRST-LAST"),
        ("S1=0-" + "9" * 5000, "NAME=FIRST-LAST"),
        ("S\udcff=0-3", "not UTF-8"),
        ("S1=5-3", "ends before it begins"),
        ("S1=0-29,S2=29-40", "S2 and S1 claim the same"),
    ],
)
def test_signers_that_make_no_sense_are_refused(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse_signers(text)


@pytest.mark.real_data
def test_all_real_clips_import_and_batch(real_data_dir: Path, tmp_path: Path) -> None:
    npz = real_data_dir / "traduttore-asl" / "landmarks.npz"
    script = real_data_dir / "unpack_mp_data.py"
    subprocess.run([sys.executable, script, npz, tmp_path / "MP_Data"], check=True)
    report = import_mp_data(
        tmp_path / "MP_Data", tmp_path / "asl", signers=parse_signers("S1=0-29,S2=30-59,S3=60-89")
    )
    assert report == ImportReport(900, ())
    with np.load(npz, allow_pickle=False) as data:
        frames, labels = data["X"], data["label"].tolist()
        ids = [f"{s}/{g}/{n}" for s, g, n in zip(data["signer"], labels, data["seq"], strict=True)]
    with Corpus.open(tmp_path / "asl") as corpus:
        assert sorted(corpus.ids) == sorted(ids)
        for sample in corpus:
            expected = frames[ids.index(sample.id)].astype(np.float32)
            assert to_values(sample.landmarks_TKC).tobytes() == expected.tobytes(), sample.id
        config = DataConfig(test_signers=("S3",), sentences_per_epoch=32, dev_sentences=16)
        data = TrainingData(corpus, config, seed=0, encoded_length=lambda t: -(-t // 4))
        assert data.spliced
        assert not data.unalignable
        assert len(data.vocabulary) == 9
        assert (len(data.splits.train), len(data.splits.dev), len(data.splits.test)) == (
            540,
            60,
            300,
        )
        for batch in (
            *data.train_batches(1),
            *data.eval_batches("dev"),
            *data.eval_batches("test"),
        ):
            assert all(6 <= len(glosses) <= 10 and "-" not in glosses for glosses in batch.glosses)
