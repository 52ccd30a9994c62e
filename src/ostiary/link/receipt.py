"""What control can say of its workers: receipts of changes, and how each of them does."""

from msgspec import Struct


class Receipt(Struct, frozen=True):
    """A change that is in force: no worker acts on the old state any more.

    `applied` of `workers` confirmed it or have ended since; the rest may no longer use what they had cached.
    """

    epoch: int
    """The number of the change (or the revision, for an installation)."""
    applied: int
    workers: int
    microseconds: int
    """From the call until the receipt."""
    dropped: dict[str, int] = {}
    """What went in all workers together, by kind: `admissions`, `limits`, `streams`; and see `still`."""

    @property
    def still(self) -> bool:
        """Whether every worker has said that nothing flows any more for the users of whom it was to forget."""
        return self.dropped.get("still", 0) == self.workers


class WorkerStatus(Struct, frozen=True):
    """One expected worker as control sees it. `pid` is 0 before its first words, `revision` 0 before its first swap."""

    worker: int
    pid: int
    connected: bool
    revision: int
    unconfirmed: int
    """Changes that it was sent and has not confirmed."""
