"""The corpus on disk: exact round trips, no copies, damage named, crashes harmless."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.corpus import reader, writer
from core.corpus.format import MANIFEST_NAME, Sample
from core.corpus.reader import Corpus
from core.corpus.training_inputs import check_trainable
from core.corpus.writer import CorpusWriter
from core.errors import AlreadyNormalizedError, CorpusError, MalformedInputError
from core.landmarks.layout import LEFT_SHOULDER, RIGHT_SHOULDER
from tests.conftest import REPOSITORY
from tests.unit.made_samples import make_landmarks, make_sample, write_corpus


def shards(path: Path) -> list[Path]:
    return sorted(path.glob("shard-*.arrow"))


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = path / MANIFEST_NAME
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def test_every_field_comes_back_exactly(tmp_path: Path) -> None:
    full = make_sample(
        "S2/ÄPFEL/1",
        ("ÄPFEL", "NICE TO MEET"),
        "S2",
        9,
        mirrored=True,
        source="cam 0",
        timings=((0, 4), (5, 9)),
        aspect=4 / 3,
    )
    bare = make_sample("b", ())
    with Corpus.open(write_corpus(tmp_path / "c", [full, bare], note="from a test")) as corpus:
        assert (corpus.name, corpus.synthetic, corpus.note) == ("made", False, "from a test")
        assert (corpus.ids, corpus.signers_of, corpus.frames_of) == (
            ("S2/ÄPFEL/1", "b"),
            ("S2", "S1"),
            (9, 8),
        )
        assert corpus.signers == ("S1", "S2")
        assert corpus.glosses == ("NICE TO MEET", "ÄPFEL")
        for written, read in zip([full, bare], corpus, strict=True):
            assert read.landmarks_TKC.tobytes() == written.landmarks_TKC.tobytes()
            for name in (
                "id",
                "signer",
                "glosses",
                "fps",
                "mirrored",
                "source",
                "timings",
                "aspect",
            ):
                assert getattr(read, name) == getattr(written, name), name


def test_samples_can_be_kept_but_not_written_to(tmp_path: Path) -> None:
    corpus = Corpus.open(write_corpus(tmp_path / "c", [make_sample("a"), make_sample("b")]))
    first = corpus[0].landmarks_TKC
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    corpus.close()
    assert first.shape == (8, 75, 4)
    assert np.isfinite(first[0, LEFT_SHOULDER]).all()


def test_opening_reads_no_landmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [make_sample(f"s{n}", frames=2000, seed=n) for n in range(3)]
    path = write_corpus(tmp_path / "c", samples)
    read = 0
    really_read = reader._read_at

    def counted(file: BufferedReader, offset: int, size: int) -> bytes:
        nonlocal read
        read += size
        return really_read(file, offset, size)

    monkeypatch.setattr(reader, "_read_at", counted)
    with Corpus.open(path) as corpus:
        assert sum(corpus.frames_of) * 1200 == 7_200_000
        assert read < 20_000
        assert corpus[2].landmarks_TKC.tobytes() == samples[2].landmarks_TKC.tobytes()


def test_more_shards_than_may_stay_open_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SHARD_BYTES", 1)
    monkeypatch.setattr(reader, "_KEPT_OPEN", 2)
    samples = [make_sample(f"s{n}", seed=n) for n in range(5)]
    with Corpus.open(write_corpus(tmp_path / "c", samples)) as corpus:
        corpus.verify()
        for written, read in zip(samples, corpus, strict=True):
            assert read.landmarks_TKC.tobytes() == written.landmarks_TKC.tobytes()


def test_a_corpus_that_is_replaced_can_still_be_read_by_who_has_it_open(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample("old")])
    with Corpus.open(path) as corpus:
        write_corpus(path, [make_sample("new", seed=1)], replace=True)
        assert corpus[0].landmarks_TKC.tobytes() == make_sample("old").landmarks_TKC.tobytes()


def test_shards_are_split_by_size_and_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SHARD_BYTES", 3 * 8 * 75 * 4 * 4)
    samples = [make_sample(f"s{n}", seed=n) for n in range(10)]
    path = write_corpus(tmp_path / "c", samples)
    corpus = Corpus.open(path)
    assert len(shards(path)) == 4
    assert corpus.ids == tuple(f"s{n}" for n in range(10))
    for written, read in zip(samples, corpus, strict=True):
        assert read.landmarks_TKC.tobytes() == written.landmarks_TKC.tobytes()


def test_fingerprint_is_that_of_the_samples(tmp_path: Path) -> None:
    def fingerprint(folder: str, *samples: Sample, **options: Any) -> str:
        return Corpus.open(write_corpus(tmp_path / folder, samples, **options)).fingerprint

    a, b = make_sample("a"), make_sample("b", seed=1)
    base = fingerprint("1", a, b)
    assert fingerprint("2", a, b, name="other", note="other") == base
    assert fingerprint("3", b, a) != base
    assert fingerprint("4", a, make_sample("b", seed=2)) != base
    assert fingerprint("5", a, make_sample("b", ("TREE",), seed=1)) != base
    assert len(base) == 64


def test_readers_in_several_threads_see_the_same(tmp_path: Path) -> None:
    samples = [make_sample(f"s{n}", seed=n) for n in range(20)]
    corpus = Corpus.open(write_corpus(tmp_path / "c", samples))
    expected = [sample.landmarks_TKC.tobytes() for sample in samples]
    seen: list[list[bytes]] = []
    threads = [
        threading.Thread(
            target=lambda: seen.append([sample.landmarks_TKC.tobytes() for sample in corpus])
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [expected] * 4


@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        (make_sample(""), "id and signer"),
        (make_sample(signer=""), "id and signer"),
        (make_sample(glosses=("A", " ")), "gloss is empty"),
        (make_sample(frames=0), "no frames"),
        (make_sample(aspect=0.0), "aspect is 0"),
        (make_sample(landmarks_TKC=make_landmarks(3).astype(np.float64)), "float64"),
        (make_sample(landmarks_TKC=np.full((3, 75, 4), np.inf, np.float32)), "infinite"),
        (make_sample(landmarks_TKC=np.full((3, 75, 4), 1e30, np.float32)), "lies beyond 100"),
        (make_sample(glosses=("A\udcff",)), "not UTF-8"),
        (make_sample(landmarks_TKC=np.zeros((3, 74, 4), np.float32)), "shape"),
        (make_sample(timings=((0, 2), (2, 4))), "2 timings for 1 glosses"),
        (make_sample(timings=((0, 9),)), "outside of the 8 frames"),
    ],
)
def test_a_sample_that_breaks_its_promises_is_refused(
    tmp_path: Path, sample: Sample, fault: str
) -> None:
    with pytest.raises(MalformedInputError, match=fault):
        write_corpus(tmp_path / "c", [sample])
    assert not (tmp_path / "c" / MANIFEST_NAME).exists()


def test_two_samples_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedInputError, match="same id"):
        write_corpus(tmp_path / "c", [make_sample("a"), make_sample("a")])


# --- what is not a corpus, or a damaged one ---


def test_a_missing_folder_and_a_foreign_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no corpus here"):
        Corpus.open(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(CorpusError, match="not a corpus") as caught:
        Corpus.open(tmp_path / "photos")
    assert "photos" in caught.value.subject


def test_a_writer_leaves_a_foreign_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(CorpusError, match=r"letter\.txt"):
        write_corpus(tmp_path, [make_sample()], replace=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(CorpusError, match="a file stands in its place"):
        write_corpus(tmp_path / "letter.txt", [make_sample()])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "not valid JSON"),
        (b'{"format": "signscope-corpus", "sha', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1, 2]", "not a corpus manifest"),
        (b'{"format": "other"}', "not a corpus manifest"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: bytes, fault: str) -> None:
    path = write_corpus(tmp_path / "c", [make_sample()])
    (path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(CorpusError, match=fault) as caught:
        Corpus.open(path)
    assert caught.value.subject.endswith(MANIFEST_NAME)


def test_unknown_schema_layout_and_outside_files_are_refused(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample()])
    good = (path / MANIFEST_NAME).read_text()
    edit_manifest(path, lambda values: values.update(schema_version=99))
    with pytest.raises(CorpusError, match="schema version 99, this program reads version 1"):
        Corpus.open(path)
    (path / MANIFEST_NAME).write_text(good)
    edit_manifest(path, lambda values: values.update(layout="openpose-25"))
    with pytest.raises(CorpusError, match="openpose-25"):
        Corpus.open(path)
    (path / MANIFEST_NAME).write_text(good)
    edit_manifest(path, lambda values: values["shards"][0].update(file="../../etc/passwd"))
    with pytest.raises(CorpusError, match="not a corpus manifest"):
        Corpus.open(path)


def test_a_missing_or_truncated_shard_is_named(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample()])
    (shard,) = shards(path)
    content = shard.read_bytes()
    for size in (0, 7, len(content) // 2, len(content) - 1):
        shard.write_bytes(content[:size])
        with pytest.raises(CorpusError, match=f"has {size} bytes, expected {len(content)}"):
            Corpus.open(path)
    shard.unlink()
    with pytest.raises(CorpusError, match="is missing") as caught:
        Corpus.open(path)
    assert caught.value.subject == str(shard)


def test_changed_bytes_never_pass_the_guard(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample(frames=2)])
    (shard,) = shards(path)
    content = shard.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(content), 60, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        shard.write_bytes(damaged)
        with pytest.raises(CorpusError) as caught:
            check_trainable(Corpus.open(path))
        assert caught.value.subject == str(shard)
    shard.write_bytes(content)
    check_trainable(Corpus.open(path))


def test_a_shard_with_another_schema_is_refused(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample()])
    (shard,) = shards(path)
    table = pa.table({"id": ["a"]})
    with pa.ipc.new_file(str(shard), table.schema) as writer:
        writer.write_table(table)
    content = shard.read_bytes()
    edit_manifest(
        path,
        lambda values: values["shards"][0].update(
            bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
        ),
    )
    with pytest.raises(CorpusError, match="other columns"):
        Corpus.open(path)


def test_a_shard_that_changes_while_it_is_open_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample("a"), make_sample("b", seed=1)])
    (shard,) = shards(path)
    content = shard.read_bytes()
    with Corpus.open(path) as corpus:
        expected = corpus[1].landmarks_TKC.tobytes()
        os.truncate(shard, len(content) // 2)
        with pytest.raises(CorpusError, match=f"has {len(content) // 2} bytes, expected") as caught:
            corpus.landmarks_of(1)
        assert caught.value.subject == str(shard)
        os.truncate(shard, len(content))  # of the same size again, with zeros
        with pytest.raises(CorpusError, match="holds other bytes than were written"):
            corpus.landmarks_of(1)
        with shard.open("r+b") as file:
            file.write(content)
        assert corpus[1].landmarks_TKC.tobytes() == expected, "written to, but to the same bytes"


_ITERATES = """
import sys
from pathlib import Path
from core.corpus.reader import Corpus
from core.errors import CorpusError
try:
    with Corpus.open(Path(sys.argv[1])) as corpus:
        print("open", flush=True)
        while True:
            for sample in corpus:
                sample.landmarks_TKC.sum()
except CorpusError as error:
    sys.exit(str(error))
"""


def test_a_file_truncated_under_a_reader_ends_it_with_a_sentence_and_not_with_a_signal(
    tmp_path: Path,
) -> None:
    path = write_corpus(tmp_path / "c", [make_sample(f"s{n}", frames=400) for n in range(20)])
    process = subprocess.Popen(
        [sys.executable, "-c", _ITERATES, str(path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    os.truncate(shards(path)[0], 5000)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("A file of the corpus has 5000 bytes, expected")


def test_a_writer_does_not_mind_what_systems_leave_in_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.mkdir()
    litter = {".DS_Store", "Thumbs.db", "desktop.ini", "._corpus.json", ".directory"}
    for name in litter:
        (path / name).write_bytes(b"x")
    write_corpus(path, [make_sample("old")])
    write_corpus(path, [make_sample("new")], replace=True)
    assert Corpus.open(path).ids == ("new",)
    assert litter < {entry.name for entry in path.iterdir()}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
@pytest.mark.parametrize("name", [MANIFEST_NAME, "shard"])
def test_a_pipe_in_place_of_a_file_is_refused_and_does_not_hang(tmp_path: Path, name: str) -> None:
    path = write_corpus(tmp_path / "c", [make_sample()])
    file = path / MANIFEST_NAME if name == MANIFEST_NAME else shards(path)[0]
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CorpusError, match="not a regular file") as caught:
        Corpus.open(path)
    assert caught.value.subject == str(file)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(CorpusError, match="not a regular file"):
        Corpus.open(path)


def test_sparse_files_of_many_gigabytes_do_not_eat_the_memory(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample()])
    (shard,) = shards(path)
    os.truncate(shard, 50 * 10**9)
    edit_manifest(path, lambda values: values["shards"][0].update(bytes=50 * 10**9))
    before = peak_memory_mib()
    with pytest.raises(CorpusError, match="bytes beside its landmarks"):
        Corpus.open(path)
    edit_manifest(path, lambda values: values["shards"][0].update(frames=50 * 10**9 // 1200))
    with pytest.raises(CorpusError, match=shard.name):
        Corpus.open(path)
    os.truncate(path / MANIFEST_NAME, 50 * 10**9)
    with pytest.raises(CorpusError, match="larger than"):
        Corpus.open(path)
    assert peak_memory_mib() - before < 200


def peak_memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


@pytest.mark.parametrize(
    "content",
    [b"[" * 200_000, b'{"schema_version": ' + b"9" * 5000 + b"}", b'{"name": "\\ud800"}'],
    ids=["nested", "5000 digits", "not UTF-8"],
)
def test_an_impossible_manifest_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = write_corpus(tmp_path / "c", [make_sample()])
    (path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        Corpus.open(path)
    assert caught.value.subject.endswith(MANIFEST_NAME)
    write_corpus(path, [make_sample("new")], replace=True)
    assert Corpus.open(path).ids == ("new",)


def test_a_path_with_nul_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        Corpus.open(tmp_path / "a\0b")
    with pytest.raises(CorpusError, match="cannot be written"):
        write_corpus(tmp_path / "a\0b", [make_sample()])


def test_a_writer_keeps_the_shards_of_a_manifest_that_it_cannot_read(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample("old")])
    good = (path / MANIFEST_NAME).read_bytes()
    (path / MANIFEST_NAME).write_bytes(b"{")
    with pytest.raises(RuntimeError), CorpusWriter(path, name="n", replace=True):
        raise RuntimeError
    (path / MANIFEST_NAME).write_bytes(good)
    assert Corpus.open(path).ids == ("old",)


def test_damage_to_a_shard_never_ends_in_another_error_than_the_named_one(tmp_path: Path) -> None:
    """Opening checks no hash: the damage must be found by what is read of the shard, or not matter."""
    samples = [make_sample("a", timings=((0, 4),)), make_sample("ä", ("A", "B"), source="x")]
    path = write_corpus(tmp_path / "c", samples)
    (shard,) = shards(path)
    content = shard.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    # Everything but the landmarks: the schema, the columns, and the footer, which says the schema again.
    columns_end = content.rindex(samples[0].landmarks_TKC.tobytes())
    footer = columns_end + 2 * samples[0].landmarks_TKC.nbytes
    places = [*range(columns_end), *range(footer, len(content))]
    for position in rng.choice(places, 1500):
        damaged = bytearray(content)
        damaged[position] = rng.integers(256)
        shard.write_bytes(damaged)
        try:
            with Corpus.open(path) as corpus:
                corpus.signers, corpus.glosses, corpus.said_landmarks, list(corpus)
        except CorpusError as error:
            assert error.subject == str(shard)
            refused += 1
    assert refused > 50
    shard.write_bytes(content.replace(b"raw", b"\xffaw"))
    with Corpus.open(path) as corpus, pytest.raises(AlreadyNormalizedError, match="xffaw"):
        check_trainable(corpus)


# --- never normalised twice ---


def test_a_corpus_that_says_it_is_normalised_opens_but_is_not_trained_on(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample()])
    edit_manifest(path, lambda values: values.update(landmarks="normalized"))
    corpus = Corpus.open(path)
    assert not corpus.raw
    with pytest.raises(AlreadyNormalizedError, match="'normalized', not raw"):
        check_trainable(corpus)


def test_a_corpus_whose_numbers_look_normalised_is_not_trained_on(tmp_path: Path) -> None:
    landmarks_TKC = make_landmarks(20)
    landmarks_TKC[:, LEFT_SHOULDER, :2] = (0.5, 0.0)
    landmarks_TKC[:, RIGHT_SHOULDER, :2] = (-0.5, 0.0)
    path = write_corpus(tmp_path / "c", [make_sample("n", landmarks_TKC=landmarks_TKC)])
    with pytest.raises(AlreadyNormalizedError) as caught:
        check_trainable(Corpus.open(path))
    assert "sample n" in caught.value.subject


def test_an_empty_corpus_opens_but_is_not_trained_on(tmp_path: Path) -> None:
    corpus = Corpus.open(write_corpus(tmp_path / "c", []))
    assert len(corpus) == 0
    with pytest.raises(CorpusError, match="no samples"):
        check_trainable(corpus)


# --- replacing, failing, dying ---


def test_replacing_needs_to_be_asked_for_and_leaves_no_old_shard(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c", [make_sample("old")])
    (old_shard,) = shards(path)
    with pytest.raises(CorpusError, match="a corpus already"):
        write_corpus(path, [make_sample("new")])
    assert Corpus.open(path).ids == ("old",)
    write_corpus(path, [make_sample("new")], replace=True)
    assert Corpus.open(path).ids == ("new",)
    assert len(shards(path)) == 1
    assert not old_shard.exists()


def test_an_error_while_writing_leaves_the_old_corpus_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SHARD_BYTES", 1)
    path = write_corpus(tmp_path / "c", [make_sample("old")])
    files = {entry.name for entry in path.iterdir()}
    with (
        pytest.raises(RuntimeError, match="out of ideas"),
        CorpusWriter(path, name="n", replace=True) as w,
    ):
        w.add(make_sample("new"))
        assert len(shards(path)) == 2
        raise RuntimeError("out of ideas")
    assert {entry.name for entry in path.iterdir()} == files
    assert Corpus.open(path).ids == ("old",)


def test_a_full_disk_is_an_error_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_corpus(tmp_path / "c", [make_sample("old")])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CorpusError, match="No space left on device"):
            write_corpus(path, [make_sample("new")], replace=True)
    assert Corpus.open(path).ids == ("old",)
    assert len(shards(path)) == 1


def test_a_second_writer_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "c", name="first") as writer:
        writer.add(make_sample("a"))
        with pytest.raises(CorpusError, match="Another program is writing"):
            write_corpus(tmp_path / "c", [make_sample("b")])
    assert Corpus.open(tmp_path / "c").ids == ("a",)


_DYING_WRITERS = """
import os, signal, sys
from pathlib import Path
from core.corpus import reader, writer
from tests.unit.made_samples import make_sample, write_corpus

writer.SHARD_BYTES = 1
calls = 0

def dying(function, victim):
    # Dies before or after the call: every call counts twice.
    def counted(*args, **kwargs):
        global calls
        if calls == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if calls + 1 == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 2
        return result
    return counted

# The first use of pyarrow is slow; made here, it is made once for all children.
write_corpus(Path(sys.argv[1]).with_name("first"), [make_sample()])
for victim, path in enumerate(map(Path, sys.argv[1:])):
    child = os.fork()
    if child == 0:
        os.fsync = dying(os.fsync, victim)
        Path.replace = dying(Path.replace, victim)
        Path.unlink = dying(Path.unlink, victim)
        write_corpus(path, [make_sample("new1"), make_sample("new2")], replace=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork and SIGKILL")
def test_a_writer_killed_at_any_point_leaves_a_whole_corpus(tmp_path: Path) -> None:
    """Killed around each sync, rename and removal: the old corpus or the new one, never a mix."""
    paths = [write_corpus(tmp_path / f"c{n}", [make_sample("old")]) for n in range(24)]
    process = subprocess.run(
        [sys.executable, "-c", _DYING_WRITERS, *map(str, paths)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    codes = [int(line) for line in process.stdout.split()]
    assert codes.count(-signal.SIGKILL) >= 12
    assert codes[-1] == 0, "the last writer must have come to its end"
    seen = []
    for path in paths:
        with Corpus.open(path) as corpus:
            check_trainable(corpus)
            seen.append(corpus.ids)
        write_corpus(path, [make_sample("later")], replace=True)
        assert Corpus.open(path).ids == ("later",)
        assert len(shards(path)) == 1
        assert not list(path.glob("*.tmp"))
    assert set(seen) == {("old",), ("new1", "new2")}
    # The one moment of change: all earlier deaths leave the old corpus, all later ones the new one.
    assert seen == sorted(seen, reverse=True)
