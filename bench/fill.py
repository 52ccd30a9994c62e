"""A store with many live tokens, filled past HTTP, in large transactions, by the statements that issue each token."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path

from bench.stage import say
from ostiary.core.digest import digest
from ostiary.core.oauth import TokenRequest
from ostiary.core.refusal import Refusal
from ostiary.store.ports import Record
from ostiary.store.sql import Sql
from ostiary.store.store import open_store
from ostiary.store.tokens import Asked, issue

TURN = 5_000
"""Tokens a transaction."""
GRANT = "client_credentials"
GIVEN = frozenset({"username", "password"})


def token(number: int) -> str:
    """The text of a token: as long and as far from its neighbours as a random one."""
    return sha256(f"token {number}".encode()).hexdigest()


def requests(client: str, count: int, users: bool) -> Iterator[Asked]:
    """What is asked for each of them, and its audit record."""
    grant = "password" if users else GRANT
    now = time.time_ns() // 1000
    record = Record(
        now, "application", client, "secret", "127.0.0.1", "oauth", "tokens.issue", client, "done", "0" * 24
    )
    for number in range(count):
        user = f"user{number}" if users else ""
        asked = TokenRequest(
            client, digest(token(number)), now, (grant,), grant=grant, given=GIVEN, known=frozenset({grant}), user=user
        )
        yield asked, record


def fill(file: Path, client: str, count: int, *, users: bool = False) -> None:
    """Issue `count` tokens to the client (`users`: each of a user of its own). No node may use the file meanwhile."""
    asyncio.run(_fill(file, requests(client, count, users), count))


async def _fill(file: Path, every: Iterator[Asked], count: int) -> None:
    store = await open_store(f"sqlite:///{file}")
    began = time.monotonic()
    while turn := list(islice(every, TURN)):
        await store.writer.each(partial(_issued, turn))
    await store.close()
    say(f"  {count:,} tokens in {time.monotonic() - began:.0f} s")


def _issued(turn: list[Asked], sql: Sql) -> None:
    for outcome in issue(sql, turn):
        if isinstance(outcome, Refusal):
            raise outcome
