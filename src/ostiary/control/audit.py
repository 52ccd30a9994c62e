"""The audit: who changed what, and who was refused."""

from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.oauth import text_ok
from ostiary.store.ports import Record, RecordFilter

PAGE = 10_000


class ListRecords(Struct, frozen=True):
    """Which records."""

    operation: Annotated[str, Meta(description="only of this operation")] = ""
    name: Annotated[str, Meta(description="only of this principal")] = ""
    outcome: Annotated[str, Meta(description="only with this outcome: done, or the code of a refusal")] = ""
    target: Annotated[str, Meta(description="only about this")] = ""
    surface: Annotated[str, Meta(description="only over this surface")] = ""
    address: Annotated[str, Meta(description="only from this address")] = ""
    since: Annotated[int, Meta(ge=0, description="not before this Unix time in microseconds")] = 0
    until: Annotated[int, Meta(ge=0, description="before this Unix time in microseconds; 0: until now")] = 0
    before: Annotated[int, Meta(ge=0, description="only those below this number; 0: from the newest")] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 100


class VerifyRecords(Struct, frozen=True):
    """From where on."""

    head: Annotated[
        str, Meta(description="a link (hex) noted before: it must still be in the chain; empty: none is looked for")
    ] = ""


class Verified(Struct, frozen=True):
    """What became of the chain. Note `head` elsewhere: with it, records cut off at the end are noticed too."""

    intact: bool
    records: int
    unlinked: int
    """From before there were links."""
    broken: list[int]
    """Numbers of records that do not fit the one before: it, or this one, was altered or removed. At most 100."""
    head: str
    """The link (hex) of the newest record."""
    head_found: bool | None
    """Whether the one that was asked for is in the chain; null: none was."""


@operation("audit.list", reads=True)
async def list_(control: Control, call: Call, params: ListRecords) -> list[Record]:
    """List the audit records, newest first."""
    texts = (params.operation, params.name, params.outcome, params.target, params.surface, params.address)
    if not all(text_ok(text, 255) for text in texts):
        return []
    return await control.audit.page(RecordFilter(*texts, params.since, params.until, params.before, params.limit))


@operation("audit.verify", reads=True, permission="audit:read")
async def verify(control: Control, call: Call, params: VerifyRecords) -> Verified:
    """Check that no audit record was altered or removed since it was written."""
    after, records, unlinked, head = 0, 0, 0, b""
    broken: list[int] = []
    found: bool | None = False if params.head else None
    while page := await control.audit.chain(after, PAGE):
        for record, link, fits in page:
            records, unlinked = records + 1, unlinked + (not link)
            found = found or (None if found is None else link.hex() == params.head.lower())
            if not fits:
                broken.append(record.number)
        after, head = page[-1][0].number, page[-1][1]
    return Verified(not broken and found is not False, records, unlinked, broken[:100], head.hex(), found)
