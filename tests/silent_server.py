"""A server that takes every connection and never says a word, as some proxies do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Give its address, "http://127.0.0.1:PORT"."""
    # The system itself completes the connections of a socket that listens.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
