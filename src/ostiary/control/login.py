"""Log-in by name and password, and what failures cost."""

from collections import OrderedDict
from collections.abc import Callable

from ostiary.control.passwords import Passwords
from ostiary.core.people import MOST_EMAIL, MOST_PASSWORD, Penalty, email_ok, fail, user_name_ok, wait
from ostiary.core.permission import ROLES, Principal
from ostiary.core.refusal import Forbidden, Limited, Unauthenticated
from ostiary.core.snapshot import SECOND
from ostiary.store.ports import User, Users

MOST_PENALTIES = 100_000
STAND_IN = "$argon2id$v=19$m=19456,t=2,p=1$b3N0aWFyeS1zdGFuZC1pbg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""Checked where there is no such user, so that an answer takes the same time; no password fits it."""


class Login:
    """Who may come in. One for all surfaces: penalties count together."""

    def __init__(self, users: Users, passwords: Passwords, clock: Callable[[], int]) -> None:
        self._users = users
        self._passwords = passwords
        self._clock = clock
        self._penalties: OrderedDict[str, Penalty] = OrderedDict()

    async def password(self, name: str, password: str) -> Principal:
        """The principal of a user by name or address.

        Refuses Limited `login.throttled` (then nothing was checked or counted), Unauthenticated `login.refused`,
        Forbidden `login.inactive` for the right password of a disabled user.
        """
        account = name[:MOST_EMAIL].casefold()
        self._bar(account)
        found = await self._users.named(name) if user_name_ok(name) or email_ok(name) else None
        kept = STAND_IN if found is None else found[1]
        if not self._passwords.remembered(kept, password):
            await self._check(account, kept, password)
        if found is None:
            raise _refused()
        self._penalties.pop(account, None)
        return principal(found[0])

    def forget(self) -> int:
        """Lift all penalties; how many there were."""
        count = len(self._penalties)
        self._penalties.clear()
        return count

    def _bar(self, account: str) -> None:
        left = wait(self._penalties.get(account, Penalty()), self._clock())
        if left:
            seconds = -(-left // SECOND)
            message = f"Too many log-in attempts. Please wait {seconds} seconds before trying again."
            raise Limited("login.throttled", message, seconds)

    async def _check(self, account: str, kept: str, password: str) -> None:
        """An attempt counts as failed before it is checked, so parallel guesses gain nothing.

        The same guess while it is being checked is the same attempt: a client may begin with many requests at once.
        """
        if not self._passwords.verifying(kept, password):
            self._bar(account)
            self._penalties[account] = fail(self._penalties.pop(account, Penalty()), self._clock())
            if len(self._penalties) > MOST_PENALTIES:
                self._penalties.popitem(last=False)
        if len(password) > MOST_PASSWORD or not await self._passwords.verify(kept, password):
            raise _refused()


def _refused() -> Unauthenticated:
    return Unauthenticated("login.refused", "Wrong name or password")


def principal(user: User) -> Principal:
    """The user as a principal. Refuses Forbidden `login.inactive`."""
    if not user.active:
        raise Forbidden("login.inactive", "The user is not active")
    return Principal("user", user.name, ROLES[user.role], "password")
