"""The one place for work that takes the whole processor."""

from __future__ import annotations


class ComputeSlot:
    """Held by the training run or the replay in progress: never by both, they would change one another.

    Both seed torch's generators and set switches that hold for the whole process. GUI thread only, so
    that looking and taking are one step.
    """

    def __init__(self) -> None:
        self.holder = ""
        """What the work in progress is called, "" while there is none."""

    def take(self, holder: str) -> bool:
        """Take the place for ``holder`` if it is free; say whether it was."""
        if self.holder:
            return False
        self.holder = holder
        return True

    def give_back(self) -> None:
        """Free the place: the work is over and its thread is gone."""
        self.holder = ""
