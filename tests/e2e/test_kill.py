"""What was answered is kept, whenever control is killed: 20 times in the middle of a thousand requests at once.

    each round:  requests of every kind go out at once -> so many answers later control is killed -> its successor is
                 asked for everything that was ever answered

What got no answer may have happened or not, but wholly; nothing else is asked of it.
"""

import hashlib
import os
import signal
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.e2e.crowd import Crowd, basic, bearer, each, form, request
from tests.e2e.house import URI, Answer, Node, once, serving

ROUNDS = 20
ISSUES, REVOKES, REGISTRATIONS, EXCHANGES, REFRESHES = 400, 250, 250, 50, 50
ALL = ISSUES + REVOKES + REGISTRATIONS + EXCHANGES + REFRESHES
OWNER = basic("admin", "change-me-please-1")
Pair = tuple[str, str]


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
        answers = await each(self.node.gateway, [bearer("/closed", token) for token in tokens])
        assert {answer.status for answer in answers} <= {status}

    async def holds(self, since: int) -> None:
        """Everything that was answered is so; `since` tells which dead tokens the workers were not asked for yet."""
        live = {state["handle"] for state in await self.listed()}
        assert not {handle(token) for token in self.dead} & live
        assert {handle(token) for token in self.alive} <= live
        kept = (await once(self.node.admin, "GET", "/oauth20/applications")).json
        assert set(self.registered) <= {application["client_id"] for application in kept}
        await self.passes(self.dead[since:], 401)
        await self.passes(self.alive[-ALL:], 200)

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


def whole(database: Path) -> None:
    """Nothing in the store is there by half: what one transaction writes is all there, or nothing of it."""
    with closing(sqlite3.connect(database)) as connection:
        for question, answer in INVARIANTS.items():
            assert connection.execute(question).fetchall() == answer, question


NONE: list[tuple[object, ...]] = [(0,)]
DONE = "(SELECT COUNT(*) FROM audit WHERE outcome = 'done' AND operation = '{}')"
INVARIANTS: dict[str, list[tuple[object, ...]]] = {
    "PRAGMA integrity_check": [("ok",)],
    "PRAGMA foreign_key_check": [],
    "SELECT COUNT(*) FROM tokens WHERE application NOT IN (SELECT id FROM applications)": NONE,
    "SELECT COUNT(*) FROM applications WHERE id NOT IN (SELECT application FROM application_scopes)": NONE,
    "SELECT COUNT(*) FROM (SELECT 1 FROM tokens WHERE spent IS NOT NULL AND family NOT IN"
    " (SELECT family FROM tokens WHERE kind = 'access' AND family IS NOT NULL))": NONE,
    "SELECT COUNT(*) FROM (SELECT 1 FROM tokens WHERE family IS NOT NULL AND revoked IS NULL AND spent IS NULL"
    " GROUP BY family, kind HAVING COUNT(*) > 1)": NONE,
    f"SELECT (SELECT COUNT(*) FROM applications) - {DONE.format('applications.create')}": NONE,
    f"SELECT (SELECT COUNT(*) FROM tokens WHERE kind = 'code') - {DONE.format('codes.issue')}": NONE,
    "SELECT (SELECT COUNT(*) FROM tokens WHERE kind = 'access')"
    f" + (SELECT COUNT(*) FROM changes WHERE kind = 'token.replaced') - {DONE.format('tokens.issue')}": NONE,
    "SELECT (SELECT COUNT(*) FROM tokens WHERE kind = 'access' AND revoked IS NOT NULL)"
    " - (SELECT COUNT(*) FROM changes WHERE kind = 'token.revoked')": NONE,
    "SELECT MAX(seq) - COUNT(*) FROM changes": NONE,
}
"""A question to the store, and what it answers when nothing is there by half."""


@pytest.mark.timeout(300)
async def test_whatever_was_answered_outlives_control(configured: Path) -> None:
    async with serving(configured, "--workers", "2") as node:
        ledger = Ledger(node, await node.client())
        for turn in range(ROUNDS):
            since = len(ledger.dead)
            await ledger.prepare()
            ledger.note(await killed_after(node, ledger.mixed(), 1 + turn * (ALL - 100) // ROUNDS))
            await ledger.holds(since)
        node.process.terminate()
        await node.said()
    whole(configured / "var" / "ostiary.db")
