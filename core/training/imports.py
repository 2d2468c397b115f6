"""What training imports, imported once and by one thread at a time.

torch imports parts of itself only when they are first used: making an optimizer imports ``torch._dynamo``,
``use_deterministic_algorithms`` imports ``torch._inductor``, and the two import one another. Two threads
that begin at different ends of that circle see half of a module, and the failed import stays half for
as long as the process lives.
"""

from __future__ import annotations

import threading

_importing = threading.Lock()


def import_training() -> None:
    """Import everything that a training run or a replay needs; return when it is all there.

    Any thread; a second one waits for the first. Takes seconds the first time and nothing afterwards.
    Whoever uses torch for training in a process with more than one thread calls it first.

    Raises:
        ImportError: torch, or something that it needs, is not installed whole.
    """
    with _importing:
        import torch._dynamo
        import torch._inductor.config  # noqa: F401

        import core.training.replay
        import core.training.session  # noqa: F401
