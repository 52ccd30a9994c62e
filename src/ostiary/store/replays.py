"""Answers that are kept for a while, so that a request that is sent again is not done again, in SQL."""

from ostiary.core.snapshot import SECOND
from ostiary.store.ports import Replay
from ostiary.store.sql import Line, Sql

KEPT = 3600 * SECOND
"""How long an answer is kept."""
_BEGIN = """
INSERT INTO replays (caller, key, request, answer, at) VALUES (:caller, :key, :request, NULL, :now)
ON CONFLICT (caller, key) DO UPDATE SET request = excluded.request, answer = NULL, at = excluded.at
WHERE replays.at <= :over
"""
_GET = "SELECT request, answer FROM replays WHERE caller = :caller AND key = :key"
_FINISH = "UPDATE replays SET answer = :answer WHERE caller = :caller AND key = :key"


class SqlReplays:
    """Replays in SQL."""

    def __init__(self, writer: Line) -> None:
        self._writer = writer

    async def begin(self, caller: str, key: str, request: bytes, now: int) -> Replay | None:
        def unit(sql: Sql) -> Replay | None:
            if sql.change(_BEGIN, caller=caller, key=key, request=request, now=now, over=now - KEPT):
                return None
            found = sql.row(_GET, caller=caller, key=key)
            return None if found is None else Replay(bytes(found[0]), None if found[1] is None else bytes(found[1]))

        return await self._writer.each(unit)

    async def finish(self, caller: str, key: str, answer: bytes) -> None:
        await self._writer.each(lambda sql: sql.change(_FINISH, caller=caller, key=key, answer=answer))
