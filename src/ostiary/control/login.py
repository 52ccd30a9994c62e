"""Log-in: who may come in, by password or by code, and what they are given for it."""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control import totp
from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.passwords import Passwords
from ostiary.control.penalties import Penalties
from ostiary.control.principals import SESSION_KEYS, SESSION_TYPE, named, principal_of, refused
from ostiary.control.registry import operation
from ostiary.control.vault import Vault
from ostiary.core.digest import digest
from ostiary.core.penalty import neighbourhood
from ostiary.core.people import (
    KNOWN_FOR,
    MOST_EMAIL,
    MOST_PASSWORD,
    Kind,
    PeopleRules,
    State,
    email_ok,
    state,
    user_name_ok,
)
from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Forbidden, NotFound, Unauthenticated
from ostiary.core.snapshot import SECOND
from ostiary.store.people import Account, NewCredential, Proof, Users

STAND_IN = "$argon2id$v=19$m=19456,t=2,p=1$b3N0aWFyeS1zdGFuZC1pbg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""Checked where there is no such user, so that an answer takes the same time; no password fits it."""
ISSUER = "ostiary"


class Login:
    """Who may come in. One for all surfaces: penalties count together."""

    def __init__(
        self, users: Users, passwords: Passwords, penalties: Penalties, vault: Vault,
        rules: Callable[[], PeopleRules], clock: Callable[[], int],
    ) -> None:  # fmt: skip
        self._users = users
        self._passwords = passwords
        self._penalties = penalties
        self._vault = vault
        self._rules = rules
        self._clock = clock

    async def password(self, name: str, password: str, address: str = "") -> Principal:
        """The principal of a user by name or address. Refuses as `by_password`."""
        account = await self.by_password(name, password, address)
        return principal_of(account.user, account.role, "password")

    async def by_password(self, name: str, password: str, address: str = "") -> Account:
        """The account that a password opens. Refuses as `prove`."""
        self._penalties.check(address)
        return await self.prove(await self.find(name), name, password, address)

    async def find(self, name: str) -> Account | None:
        """The account of a name or an address, if there is such a one."""
        return await self._users.named(name) if user_name_ok(name) or email_ok(name) else None

    async def prove(self, found: Account | None, name: str, password: str, address: str) -> Account:
        """What was `found` under a name, if the password opens it.

        Refuses Limited `login.throttled` (then nothing was checked or counted), Unauthenticated `login.refused`,
        Forbidden `login.inactive` for the right password of a disabled user, `login.second_factor` for one who has
        to show a code.
        """
        kept = (found.password if found else "") or STAND_IN
        known = await self._known(found, address)
        same = self._passwords.remembered(kept, password) or self._passwords.verifying(kept, password)
        doubt = self._penalties.failures(address)
        attempt = self._penalties.begin(_account(name), address, password, known=known, counted=not same)
        if len(password) > MOST_PASSWORD or not await self._passwords.verify(kept, password, known=known, doubt=doubt):
            attempt.fail()
            raise _refused()
        attempt.succeed()
        if found is None:
            raise _refused()
        if not found.user.active:
            raise Forbidden("login.inactive", "The user is not active")
        if found.totp and self._rules().second_factor:
            raise Forbidden("login.second_factor", "A password alone does not do for this user")
        return found

    async def by_code(self, found: Account | None, name: str, code: str, address: str) -> tuple[Account, int]:
        """What was `found` under a user's name, if the code opens it; and the code's step, to be used up (Proof), or 0.

        Refuses Limited `login.throttled`, NotFound `user.unknown`, Unauthenticated `login.code`, Forbidden
        `login.inactive` for the right code of a disabled user.
        """
        found = found if found is not None and found.user.name == name else None
        known = await self._known(found, address)
        attempt = self._penalties.begin(_account(name), address, code, known=known)
        if found is None:
            attempt.fail()
            raise NotFound("user.unknown", "There is no such user")
        step, once = self._step(found, code), self._rules().totp_single_use
        if step is None or (once and step <= found.totp_step):
            attempt.fail()
            raise Unauthenticated("login.code", "The code is not valid")
        attempt.succeed()
        if not found.user.active:
            raise Forbidden("login.inactive", "The user is not active")
        return found, step if once else 0

    def _step(self, account: Account, code: str) -> int | None:
        secret = self._vault.open(str(account.user.number), account.totp) if account.totp else ""
        return totp.step_of(secret, code, self._clock(), self._rules().totp_window) if secret else None

    async def _known(self, found: Account | None, address: str) -> bool:
        """Whether the account's user came in from this address lately."""
        since = self._clock() - KNOWN_FOR
        return found is not None and await self._users.known(found.user.number, neighbourhood(address), since)

    def forget(self) -> int:
        """Lift all penalties; how many there were."""
        return self._penalties.forget()


def _account(name: str) -> str:
    """An account as it is counted: as typed, existing or not, letter case aside."""
    return name[:MOST_EMAIL].casefold()


def _refused() -> Unauthenticated:
    return Unauthenticated("login.refused", "Wrong name or password")


class Nothing(Struct, frozen=True):
    """No parameters: it is about the credential that asks."""


class ByPassword(Struct, frozen=True):
    """A log-in by password."""

    user: Annotated[str, Meta(description="name or address of the user")]
    password: Annotated[str, Meta(description="the password")]
    personal: Annotated[bool, Meta(description="give a personal token instead of a session token")] = False
    label: Annotated[str, Meta(max_length=255, description="of a personal token: what it is called")] = "log-in"


class ByCode(Struct, frozen=True):
    """A log-in by code."""

    user: Annotated[str, Meta(description="name of the user")]
    code: Annotated[str, Meta(description="six digits from the authenticator application")]


class Presented(Struct, frozen=True):
    """A refresh token."""

    refresh_token: Annotated[str, Meta(description="the refresh token of a log-in by code")]


class LoggedIn(Struct, frozen=True):
    """What a log-in gave, shown only here."""

    user: str
    access_token: str
    expires_in: int | None = None
    """Seconds; absent for a token that ends only when it is not used for long."""
    refresh_token: str | None = None
    csrf_token: str | None = None
    """Of a session token: what a page has to show that lets a browser use its cookie."""
    ended: int = 0
    """How many tokens were ended for it."""


class Checked(Struct, frozen=True):
    """Who is signed in."""

    kind: str
    name: str
    role: str
    permissions: list[str]
    credential: str


@operation("login.password", permission="")
async def password(control: Control, call: Call, params: ByPassword) -> LoggedIn:
    """Log in by password, for a session token or a personal token."""
    found = await _about(control, call, params.user)
    account = await control.login.prove(found, params.user, params.password, call.address)
    proof = Proof(account.user.number, account.password)
    made = [new_personal(control, params.label) if params.personal else _new_session(control, control.clock())]
    await _open(control, call, account, proof, made)
    return await _given(control, account.user.name, made)


@operation("login.totp", permission="")
async def by_code(control: Control, call: Call, params: ByCode) -> LoggedIn:
    """Log in by a code of the authenticator application, for an access and a refresh token."""
    found = await _about(control, call, params.user)
    account, step = await control.login.by_code(found, params.user, params.code, call.address)
    made = _new_pair(control, control.clock(), control.entropy(16))
    ends = (Kind.ACCESS, Kind.REFRESH) if control.rules.people.single_session else ()
    await _open(control, call, account, Proof(account.user.number, totp_step=step, ends=ends), made)
    return await _given(control, account.user.name, made)


@operation("login.renew", permission="")
async def renew(control: Control, call: Call, params: Nothing) -> LoggedIn:
    """Replace the session token that asks by a new one; the old one is refused everywhere."""
    holder = await control.credentials.find(call.principal.digest) if call.principal.digest else None
    if holder is None or holder.credential.kind is not Kind.SESSION:
        raise refused()
    now, login = control.clock(), holder.credential.authenticated
    ttl = min(control.rules.people.session_ttl, login + control.rules.people.session_max_age - now)
    if ttl < SECOND:
        raise refused()
    made = [_new_session(control, login, ttl)]
    await control.credentials.replace(holder.credential.digest, [each.kept for each in made], call.done(now))
    return await _given(control, call.principal.name, made)


@operation("tokens.refresh", permission="")
async def refresh(control: Control, call: Call, params: Presented) -> LoggedIn:
    """Replace a pair of tokens by a new one, by its refresh token; a used one shown again ends what came of it."""
    presented = digest(params.refresh_token)
    holder = await control.credentials.find(presented)
    if holder is None or holder.credential.kind is not Kind.REFRESH:
        raise Unauthenticated("refresh.unknown", "The refresh token is not valid")
    now, credential = control.clock(), holder.credential
    worth = state(credential, holder.user, now)
    if worth is not State.LIVE and not credential.spent:
        raise Unauthenticated("refresh.unknown", "The refresh token is not valid")
    made = _new_pair(control, credential.authenticated, credential.family)
    record = call.done(now, holder.user.name, principal_of(holder.user, holder.role, named(credential)))
    grace = control.rules.people.refresh_grace
    await control.credentials.replace(presented, [each.kept for each in made], record, grace=grace)
    return await _given(control, holder.user.name, made)


@operation("login.check", reads=True, permission="")
async def check(control: Control, call: Call, params: Nothing) -> Checked:
    """Say who is signed in, and what they may do."""
    who = call.principal
    if who.kind == NOBODY.kind:
        raise Unauthenticated("authentication.required", "Authentication is required")
    return Checked(who.kind, who.name, who.role, sorted(who.permissions), who.credential)


class Made(Struct, frozen=True):
    """A credential that is being made: what is kept of it, and its text."""

    kept: NewCredential
    text: str
    """The token; of a session token its `jti`."""


def new_personal(control: Control, label: str, expires: int = 0) -> Made:
    """A personal token."""
    text, now = control.entropy(32).hex(), control.clock()
    return Made(NewCredential(digest(text), Kind.PERSONAL, control.entropy(16), now, expires, now, label), text)


def _new_session(control: Control, login: int, ttl: int = 0) -> Made:
    """A session token of `ttl` microseconds (0: as configured), going back to the log-in at `login`."""
    jti, now = control.entropy(16).hex(), control.clock()
    expires = now + (ttl or control.rules.people.session_ttl)
    return Made(NewCredential(digest(jti), Kind.SESSION, control.entropy(16), now, expires, login), jti)


def _new_pair(control: Control, login: int, family: bytes) -> list[Made]:
    """An access and a refresh token of one family."""
    now, rules = control.clock(), control.rules.people
    made = []
    for kind, lifetime in ((Kind.ACCESS, rules.access_lifetime), (Kind.REFRESH, rules.refresh_lifetime)):
        text = control.entropy(32).hex()
        made.append(Made(NewCredential(digest(text), kind, family, now, now + lifetime, login), text))
    return made


async def _about(control: Control, call: Call, name: str) -> Account | None:
    """Whom a log-in is about; whoever is barred is sent away before.

    The audit names the account, if there is such a one: people type passwords into name fields.
    """
    control.penalties.check(call.address)
    found = await control.login.find(name)
    call.trail.about = found.user.name if found is not None else ""
    return found


async def _open(control: Control, call: Call, account: Account, proof: Proof, made: list[Made]) -> None:
    """Keep what a log-in gives."""
    principal = principal_of(account.user, account.role, "log-in")
    record = call.done(control.clock(), account.user.name, principal)
    await control.credentials.open(proof, [each.kept for each in made], record, neighbourhood(call.address))


async def _given(control: Control, name: str, made: list[Made]) -> LoggedIn:
    """What the answer shows."""
    first = made[0]
    kept = first.kept
    seconds = (kept.expires - kept.issued) // SECOND if kept.expires else None
    if kept.kind is not Kind.SESSION:
        return LoggedIn(name, first.text, seconds, made[1].text if len(made) > 1 else None)
    claims = {
        "iss": ISSUER, "sub": name, "iat": kept.issued // SECOND, "exp": kept.issued // SECOND + (seconds or 0),
        "jti": first.text, "auth_time": kept.authenticated // SECOND,
    }  # fmt: skip
    token = await control.keys.sign(SESSION_KEYS, SESSION_TYPE, claims)
    return LoggedIn(name, token, seconds, csrf_token=control.csrf.token("session", kept.digest.hex()))
