"""A call: who asks, over what, and the trail that the operation leaves."""

from collections.abc import Callable

from msgspec import Struct, field

from ostiary.core.digest import digest, handle
from ostiary.core.permission import NOBODY, Principal
from ostiary.link.messages import Change
from ostiary.link.receipt import Receipt
from ostiary.store.ports import Record

DONE = "done"
"""The outcome of what was not refused."""
BEGUN = "begun"
"""Of what goes on: another record says how it ended, unless control ended meanwhile."""
MOST_TARGET = 255
"""Characters of a target that the audit keeps."""
LONGEST_NAME = 42
"""Characters of a refused target beyond which it could be a token, a code or a secret in the wrong place."""


class Trail(Struct):
    """What an operation left behind besides its result."""

    receipt: Receipt | None = None
    """Set when workers had to apply something."""
    recorded: bool = False
    """The audit record went into the store together with the change."""
    lasting: bool = False
    """A record is there, and the work goes on: should it fail, that stands in the audit too."""

    later: Change | None = None
    """What workers are to hear of after the answer."""
    afterwards: Callable[[], None] | None = None
    """To be called when the whole answer has been sent, or nobody is there any more to take it."""
    about: str = ""
    """What is acted upon, where the operation has to find that out."""

    @property
    def applied(self) -> str:
        """The receipt as the header `X-Ostiary-Applied` says it, `""` for none."""
        if self.receipt is None:
            return ""
        milliseconds = -(-self.receipt.microseconds // 1000)
        workers = f"workers {self.receipt.applied}/{self.receipt.workers}"
        return f"epoch {self.receipt.epoch}; {workers}; nodes 1/1; {milliseconds} ms"


class Call(Struct, frozen=True):
    """One asking of one operation."""

    principal: Principal = NOBODY
    surface: str = ""
    """`native`, `apifest`, `doorman`, `doveadm`, `signal`, `start`."""
    address: str = ""
    request_id: str = ""
    operation: str = ""
    """Filled in by the registry, as is `target`."""
    target: str = ""
    trail: Trail = field(default_factory=Trail)
    dry: bool = False
    """Whether a change is only to be foreseen: everything is checked, nothing is done, no record is written."""

    def record(self, at: int, outcome: str, target: str = "", principal: Principal | None = None) -> Record:
        """The audit record of this call."""
        who = principal or self.principal
        about = target or self.target or self.trail.about
        if outcome != DONE and not self.trail.lasting and len(about) > LONGEST_NAME:
            about = handle(digest(about))
        about = about[:MOST_TARGET].replace("\0", "?").encode("utf-8", "replace").decode()
        return Record(
            at, who.kind, who.name, who.credential, self.address, self.surface, self.operation, about, outcome,
            self.request_id,
        )  # fmt: skip

    def begun(self, at: int) -> Record:
        """The record of a change that takes its time, to be kept before anything of it is done."""
        self.trail.lasting = True
        return self.record(at, BEGUN)

    def wanted(self, at: int, target: str = "") -> Record:
        """As `done`, of what is wanted from now on, and about to be brought about."""
        self.trail.lasting = True
        return self.done(at, target)

    def done(self, at: int, target: str = "", principal: Principal | None = None) -> Record:
        """The record of success, to be handed to the store with the change; the registry then writes no other."""
        self.trail.recorded = True
        return self.record(at, DONE, target, principal)
