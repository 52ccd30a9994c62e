"""The audit: who changed what, and who was refused."""

from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.oauth import text_ok
from ostiary.store.ports import Record, RecordFilter


class ListRecords(Struct, frozen=True):
    """Which records."""

    operation: Annotated[str, Meta(description="only of this operation")] = ""
    name: Annotated[str, Meta(description="only of this principal")] = ""
    outcome: Annotated[str, Meta(description="only with this outcome: done, or the code of a refusal")] = ""
    target: Annotated[str, Meta(description="only about this")] = ""
    since: Annotated[int, Meta(ge=0, description="not before this Unix time in microseconds")] = 0
    before: Annotated[int, Meta(ge=0, description="only those below this number; 0: from the newest")] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 100


@operation("audit.list", reads=True)
async def list_(control: Control, call: Call, params: ListRecords) -> list[Record]:
    """List the audit records, newest first."""
    texts = (params.operation, params.name, params.outcome, params.target)
    if not all(text_ok(text, 255) for text in texts):
        return []
    return await control.audit.page(RecordFilter(*texts, params.since, params.before, params.limit))
