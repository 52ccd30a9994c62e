"""What goes when its time is over, a few rows a transaction. The audit never goes.

Each statement deletes at most `:most` rows that ended before the moment `:before`, oldest first. A subject that keeps
what expires adds its line to STALE. The road not taken: to forget as many tokens as are issued within the issue, which
made issuing two times slower.
"""

from typing import NamedTuple

from ostiary.core.people import KNOWN_FOR
from ostiary.core.snapshot import SECOND
from ostiary.store.replays import KEPT as ANSWERED
from ostiary.store.sql import Line
from ostiary.store.tokens import KEPT

DAY = 86_400 * SECOND
MOST = 100
"""Rows in a transaction, which token writes wait for: about five milliseconds."""

_TOKENS = """
DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires < :before ORDER BY expires LIMIT :most)
"""
_BROWSER_LOGINS = """
DELETE FROM browser_logins
WHERE digest IN (SELECT digest FROM browser_logins WHERE expires < :before ORDER BY expires LIMIT :most)
"""
# A spent refresh token stays as long as it would have lived: shown again, it ends what came of it. What has no end of
# its own goes once it was ended.
_CREDENTIALS = """
DELETE FROM credentials WHERE id IN (
  SELECT id FROM credentials WHERE expires < :before AND (expires > 0 OR ended < :before) ORDER BY expires LIMIT :most)
"""
_ADDRESSES = """
DELETE FROM known_addresses WHERE (user_number, address) IN (
  SELECT user_number, address FROM known_addresses WHERE at < :before ORDER BY at LIMIT :most)
"""
# From the oldest on, up to the first that is too young: so no gap comes. The last of those looked at stays: at the end
# it is the newest of all, whose number the next one follows.
_CHANGES = """
DELETE FROM changes WHERE seq < (
  SELECT COALESCE(MIN(CASE WHEN at >= :before THEN seq END), MAX(seq))
  FROM (SELECT seq, at FROM changes ORDER BY seq LIMIT :most) AS oldest)
"""
_JOBS = """
DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE finished < :before ORDER BY finished LIMIT :most)
"""
# Who was forgotten may still have to wait for what flows to the old host.
_ASSIGNMENTS = """
DELETE FROM assignments WHERE (upstream, tag, hash) IN (
  SELECT upstream, tag, hash FROM assignments WHERE expires < :before AND held < :before ORDER BY expires LIMIT :most)
"""
_REPLAYS = """
DELETE FROM replays WHERE (caller, key) IN (
  SELECT caller, key FROM replays WHERE at < :before ORDER BY at LIMIT :most)
"""


class Stale(NamedTuple):
    """Rows that go: by which statement, and how long after their end (microseconds)."""

    table: str
    kept: int
    statement: str


STALE = (
    Stale("tokens", KEPT, _TOKENS),
    Stale("changes", DAY, _CHANGES),
    Stale("browser_logins", 0, _BROWSER_LOGINS),
    Stale("credentials", DAY, _CREDENTIALS),
    Stale("known_addresses", KNOWN_FOR, _ADDRESSES),
    Stale("assignments", 0, _ASSIGNMENTS),
    Stale("jobs", DAY, _JOBS),
    Stale("replays", ANSWERED, _REPLAYS),
)


class SqlPurge:
    """Purge in SQL."""

    def __init__(self, writer: Line) -> None:
        self._writer = writer

    async def purge(self, stale: Stale, now: int) -> int:
        """Delete some of the rows that are over at `now`; how many, 0: none are left."""
        before = now - stale.kept
        return await self._writer.each(lambda sql: sql.change(stale.statement, before=before, most=MOST))
