"""What was answered is kept, whenever control is killed: 20 times in the middle of a thousand requests at once.

    each round:  requests of every kind go out at once -> so many answers later control is killed -> workers, and so its
                 successor, are asked for every token of the round
    in the end:  the successor is asked for everything that was ever answered, and the store whether it is whole

What got no answer may have happened or not, but wholly; nothing else is asked of it.
"""

import asyncio
import hashlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.e2e.crowd import Crowd, basic, bearer, each, form, request
from tests.e2e.house import LIMIT, URI, Answer, Backend, Node, configuration, once, ostiary, serving
from tests.e2e.house import OWNER as OWNER_SETTING
from tests.postgresql import Server

ROUNDS = 20
ISSUES, REVOKES, REGISTRATIONS, EXCHANGES, REFRESHES = 400, 250, 250, 50, 50
ALL = ISSUES + REVOKES + REGISTRATIONS + EXCHANGES + REFRESHES
OWNER = basic("admin", "change-me-please-1")
Pair = tuple[str, str]
Ask = Callable[[str], list[tuple[Any, ...]]]
"""A question to the database."""


class Ledger:
    """What was answered, and so must hold."""

    def __init__(self, node: Node, client: dict[str, str]) -> None:
        self.node, self.client = node, client
        self.alive: list[str] = []
        """Access tokens that no request was ever made to end."""
        self.dead: list[str] = []
        """Access tokens whose end was answered."""
        self.spare: list[str] = []
        """Access tokens that are to be revoked."""
        self.pairs: list[Pair] = []
        """Access and refresh tokens to be refreshed."""
        self.codes: list[str] = []
        self.order: list[int] = []
        """Of which kind each request of this round is."""
        self.registered: list[str] = []

    async def prepare(self) -> None:
        """Enough of everything for a round; the workers know all tokens that it will end."""
        codes = [request("GET", f"/oauth20/auth-codes?response_type=code&client_id={self.client['client_id']}")]
        answers = await each(self.node.admin, codes * (EXCHANGES + REFRESHES))
        found = [parse_qs(urlsplit(answer.json["redirect_uri"]).query)["code"][0] for answer in answers]
        self.codes = found[:EXCHANGES]
        answers = await each(self.node.admin, [self.exchange(code) for code in found[EXCHANGES:]])
        self.pairs = [pair(answer) for answer in answers]
        answers = await each(self.node.admin, [self.issue()] * REVOKES)
        self.spare = [pair(answer)[0] for answer in answers]
        await self.passes([*self.spare, *(access for access, _ in self.pairs)], 200)

    def issue(self) -> bytes:
        return form("/oauth20/tokens", grant_type="client_credentials", **self.client)

    def exchange(self, code: str) -> bytes:
        return form("/oauth20/tokens", grant_type="authorization_code", code=code, redirect_uri=URI, **self.client)

    def refresh(self, token: str) -> bytes:
        return form("/oauth20/token", grant_type="refresh_token", refresh_token=token, **self.client)

    def mixed(self) -> list[bytes]:
        """A round's requests, of all kinds in turn."""
        kinds = [
            [self.issue()] * ISSUES,
            [request("POST", "/oauth20/tokens/revoke", {"access_token": token}) for token in self.spare],
            [request("POST", "/oauth20/applications", APPLICATION)] * REGISTRATIONS,
            [self.exchange(code) for code in self.codes],
            [self.refresh(refresh) for _, refresh in self.pairs],
        ]
        spread = sorted((at / len(kind), which) for which, kind in enumerate(kinds) for at in range(len(kind)))
        self.order = [which for _, which in spread]
        left = [iter(kind) for kind in kinds]
        return [next(left[which]) for which in self.order]

    def note(self, answers: Iterable[Answer | None]) -> None:
        """Take down what was answered; every answer is a 200."""
        by_kind: list[list[Answer | None]] = [[], [], [], [], []]
        for which, answer in zip(self.order, answers, strict=True):
            assert answer is None or answer.status == 200, answer.body
            by_kind[which].append(answer)
        issued, revoked, registered, exchanged, refreshed = by_kind
        self.alive += [pair(answer)[0] for answer in (*issued, *exchanged, *refreshed) if answer]
        self.dead += [token for token, answer in zip(self.spare, revoked, strict=True) if answer]
        self.dead += [old for (old, _), answer in zip(self.pairs, refreshed, strict=True) if answer]
        self.registered += [answer.json["client_id"] for answer in registered if answer]

    async def passes(self, tokens: list[str], status: int) -> None:
        """Workers give every one of them this answer."""
        statuses = {503}
        async with asyncio.timeout(LIMIT):
            while 503 in statuses:  # on a busy machine control may be away for longer than a lease
                answers = await each(self.node.gateway, [bearer("/closed", token) for token in tokens])
                statuses = {answer.status for answer in answers}
        assert statuses <= {status}

    async def admits(self, alive: int, dead: int) -> None:
        """Workers admit what lives and nothing that is dead, from these places on in the ledger."""
        await self.passes(self.dead[dead:], 401)
        await self.passes(self.alive[alive:], 200)

    async def holds(self) -> None:
        """Everything that was ever answered is so."""
        live = {state["handle"] for state in await self.listed()}
        assert not {handle(token) for token in self.dead} & live
        assert {handle(token) for token in self.alive} <= live
        kept = (await once(self.node.admin, "GET", "/oauth20/applications")).json
        assert set(self.registered) <= {application["client_id"] for application in kept}

    async def listed(self) -> list[dict[str, object]]:
        """Every live token."""
        found: list[dict[str, object]] = []
        page: list[dict[str, object]] = [{"number": 0}]
        while page:
            path = f"/operations/tokens.list?limit=10000&after={page[-1]['number']}"
            [answer] = await each(self.node.admin, [request("GET", path, Authorization=OWNER)])
            page = answer.json
            found += page
        return found


APPLICATION = {"name": "app", "scope": "basic", "redirect_uri": URI}


def pair(answer: Answer) -> Pair:
    """Access and refresh token of an answer."""
    assert answer.status == 200, answer.body
    return answer.json["access_token"], answer.json.get("refresh_token", "")


def handle(token: str) -> str:
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


async def killed_after(node: Node, requests: list[bytes], answers: int) -> list[Answer | None]:
    """Send them all; control is killed when so many were answered."""
    (control,) = node.children("control")
    counted = count(1)

    def told(answer: Answer | None) -> None:
        if answer is not None and next(counted) == answers:
            os.kill(control, signal.SIGKILL)

    async with Crowd(node.admin, ALL) as crowd:
        return await crowd.ask(requests, told)


async def whole(place: Path, ask: Ask) -> None:
    """Nothing in the store is there by half: what one transaction writes is all there, or nothing of it."""
    status, told, _ = await ostiary(place, "store", "check")
    assert status == 0, told
    for question in INVARIANTS:
        assert ask(question) == [(0,)], question


DONE = "(SELECT COUNT(*) FROM audit WHERE outcome = 'done' AND operation = '{}')"
INVARIANTS = (
    "SELECT COUNT(*) FROM tokens WHERE application NOT IN (SELECT id FROM applications)",
    "SELECT COUNT(*) FROM applications WHERE id NOT IN (SELECT application FROM application_scopes)",
    "SELECT COUNT(*) FROM tokens WHERE spent IS NOT NULL AND family NOT IN"
    " (SELECT family FROM tokens WHERE kind = 'access' AND family IS NOT NULL)",
    "SELECT COUNT(*) FROM (SELECT 1 FROM tokens WHERE family IS NOT NULL AND revoked IS NULL AND spent IS NULL"
    " GROUP BY family, kind HAVING COUNT(*) > 1) AS several",
    f"SELECT (SELECT COUNT(*) FROM applications) - {DONE.format('applications.create')}",
    f"SELECT (SELECT COUNT(*) FROM tokens WHERE kind = 'code') - {DONE.format('codes.issue')}",
    "SELECT (SELECT COUNT(*) FROM tokens WHERE kind = 'access')"
    f" + (SELECT COUNT(*) FROM changes WHERE kind = 'token.replaced') - {DONE.format('tokens.issue')}",
    "SELECT (SELECT COUNT(*) FROM tokens WHERE kind = 'access' AND revoked IS NOT NULL)"
    " - (SELECT COUNT(*) FROM changes WHERE kind = 'token.revoked')",
    "SELECT MAX(seq) - COUNT(*) FROM changes",
)
"""Each counts, in the store, what is there without what belongs to it."""


async def outlived(place: Path, rounds: int) -> None:
    """Kill control in so many rounds; after each, all that was answered holds."""
    async with serving(place, "--workers", "2") as node:
        ledger = Ledger(node, await node.client())
        for turn in range(rounds):
            before = len(ledger.alive), len(ledger.dead)
            await ledger.prepare()
            ledger.note(await killed_after(node, ledger.mixed(), 1 + turn * (ALL - 100) // rounds))
            await ledger.admits(*before)
        await ledger.holds()
        await ledger.admits(0, 0)
        node.process.terminate()
        await node.said()


@pytest.mark.timeout(600)
async def test_whatever_was_answered_outlives_control(configured: Path) -> None:
    await outlived(configured, ROUNDS)
    with closing(sqlite3.connect(configured / "var" / "ostiary.db")) as database:
        await whole(configured, lambda question: database.execute(question).fetchall())


@pytest.mark.timeout(600)
async def test_whatever_was_answered_outlives_control_on_postgresql(
    place: Path, behind: Backend, postgresql: Server
) -> None:
    url = postgresql.create()
    (place / "ostiary.yaml").write_text(configuration(behind.port, f"{OWNER_SETTING}store: {{url: '{url}'}}\n"))
    await outlived(place, ROUNDS // 7)
    await whole(place, lambda question: postgresql.execute(question, url))
    postgresql.drop(url)
