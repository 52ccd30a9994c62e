"""The router: which dialect a request speaks, by the beginning of its path. Each answers its own 404 and 405."""

from collections.abc import Sequence
from typing import Protocol

from ostiary.dialects.message import Answer, Application, Guarded, Look, Quick, Request


class Dialect(Application, Protocol):
    """One outside surface."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Beginnings of the paths that are its."""
        ...

    @property
    def faces_clients(self) -> bool:
        """Whether some of its paths are also on the gateway's listener."""
        ...


class Router:
    """The dialects behind control's listeners. The last of them answers what is nobody's."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self.dialects = dialects
        self.last = dialects[-1]
        pairs = ((prefix, dialect) for dialect in dialects for prefix in dialect.prefixes)
        self.prefixes = sorted(pairs, key=lambda pair: -len(pair[0]))

    def dialect(self, request: Request) -> Dialect:
        """The dialect with the longest prefix that begins the path."""
        found = (dialect for prefix, dialect in self.prefixes if request.path.startswith(prefix))
        chosen = next(found, self.last)
        return chosen if chosen.faces_clients or not request.public else self.last

    def room(self, request: Request) -> int:
        return self.dialect(request).room(request)

    async def admit(self, request: Request) -> Answer | None:
        dialect = self.dialect(request)
        return await dialect.admit(request) if isinstance(dialect, Guarded) else None

    def look(self, request: Request) -> Look | None:
        dialect = self.dialect(request)
        return dialect.look(request) if isinstance(dialect, Quick) else None

    async def answer(self, request: Request) -> Answer:
        return await self.dialect(request).answer(request)

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return self.dialect(request).refuse(request, status, reason)
