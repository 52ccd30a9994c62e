"""After a cut-off has answered, nothing that was issued to the user before passes, whatever races with it."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.control.house import House

from ostiary.control.applications import CreateApplication, UpdateApplication
from ostiary.control.login import ByPassword, LoggedIn, Nothing
from ostiary.control.principals import presented
from ostiary.control.scopes import CreateScope
from ostiary.control.tokens import CheckToken, IssueToken
from ostiary.control.users import CreateUser, OneUser, OwnUser
from ostiary.core.permission import NOBODY
from ostiary.core.refusal import Refusal

PASSWORD = "correct horse 7"


class Race:
    """Somebody who gets credentials of every kind, all the time."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.client = ("", "")
        self.held: list[str] = []
        self.granted: list[str] = []

    async def furnish(self) -> None:
        run = self.house.run
        await run("users.create", CreateUser("ann", "viewer", PASSWORD))
        await run("scopes.create", CreateScope("basic", 3600, 3600))
        grants = ["password", "refresh_token"]
        made = await run(
            "applications.create", CreateApplication("a", "basic", "https://a.example/", grant_types=grants)
        )
        await run("applications.update", UpdateApplication(made.client_id, active=True))
        self.client = made.client_id, made.client_secret

    async def log_in(self, personal: bool) -> None:
        made: LoggedIn = await self.house.run("login.password", ByPassword("ann", PASSWORD, personal), NOBODY)
        self.held.append(made.access_token)

    async def renew(self) -> None:
        """Replace the newest session token that there is."""
        for token in reversed(self.held):
            if "." in token:
                principal = await presented(self.house.control, token)
                self.held.append((await self.house.run("login.renew", Nothing(), principal)).access_token)
                return

    async def grant(self) -> None:
        asked = IssueToken("password", *self.client, username="ann", password=PASSWORD)
        issued = await self.house.run("tokens.issue", asked, NOBODY)
        self.granted.append(issued.access_token)

    async def live(self) -> set[str]:
        """Which of all that was given passes now."""
        passing = set()
        for token in self.held:
            try:
                await presented(self.house.control, token)
            except Refusal:
                continue
            passing.add(token)
        states = [(token, await self.house.run("tokens.check", CheckToken(token))) for token in self.granted]
        return passing | {token for token, state in states if state.active}


async def quietly(asked: Coroutine[Any, Any, None]) -> None:
    """A refusal is as good an answer as any here."""
    try:
        await asked
    except Refusal:
        pass


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ending", ["tokens.revoke_all", "users.disable"])
async def test_nothing_from_before_passes_after_the_answer(house: House, seed: int, ending: str) -> None:
    chance, race = random.Random(seed), Race(house)
    await race.furnish()
    await race.log_in(personal=False)
    kinds = [lambda: race.log_in(False), lambda: race.log_in(True), race.renew, race.grant]
    params = OwnUser("ann") if ending == "tokens.revoke_all" else OneUser("ann")
    for _ in range(5):
        racing = [asyncio.create_task(quietly(chance.choice(kinds)())) for _ in range(chance.randint(5, 25))]
        for _ in range(chance.randint(0, 12)):
            await asyncio.sleep(0)
        before = {*race.held, *race.granted}
        await house.run(ending, params)
        after = await race.live()
        assert before & after == set()
        await asyncio.gather(*racing)
        if ending == "users.disable":
            assert await race.live() == set()
            await house.run("users.enable", OneUser("ann"))
            assert await race.live() == set()
        race.held.clear()
        race.granted.clear()
        await race.log_in(personal=True)
        assert await race.live() == set(race.held)
