"""The standards' surface: OAuth 2.0 for clients of today (apifest.md Part C).

    path -> method -> form -> client -> the row's handler

The page where users sign in and consent is `authorize.py`, which answers in HTML. Clients authenticate themselves
here; operators only at introspection, where they show no client's credentials.
"""

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.clients import authenticated
from ostiary.control.registry import allow
from ostiary.control.scopes import ListScopes
from ostiary.control.services import OAUTH
from ostiary.control.tokens import CheckToken, IssuedToken, IssueToken, Revoked, RevokeToken, TokenState
from ostiary.core.digest import digest, handle
from ostiary.core.oauth import BUILT_IN_GRANTS
from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Invalid, Refusal, Unauthenticated
from ostiary.core.snapshot import SECOND
from ostiary.dialects import credentials
from ostiary.dialects.desk import Desk, applied, call_of
from ostiary.dialects.message import JSON, Answer, Request
from ostiary.dialects.oauth import authorize
from ostiary.dialects.oauth.form import Shown, read, shown
from ostiary.dialects.oauth.words import NO_STORE, error, refused

ROOM = 65_536
METADATA = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"
PUBLIC_FOR_A_WHILE = (("Content-Type", JSON), ("Cache-Control", "public, max-age=300"))
INACTIVE = b'{"active":false}'
NOT_FOUND = Answer(404, b'{"error":"Not found"}', NO_STORE)
STOPPED = Answer(503, b'{"error":"temporarily_unavailable"}', NO_STORE)


class Asked(Struct):
    """One request to one row: its form, and what the client shows of itself."""

    desk: Desk
    request: Request
    issuer: str
    call: Call
    form: dict[str, str]
    shown: Shown

    async def client(self, operation: str, permission: str) -> Call:
        """The call of the client itself, which may do this one thing. Refuses `client.invalid`, and records it."""
        named = msgspec.structs.replace(self.call, target=self.shown.client_id)
        try:
            client = await authenticated(self.desk.control, named, self.shown.client_id, self.shown.secret)
        except Unauthenticated as refusal:
            await self.desk.registry.refused(self.desk.control, operation, named, refusal)
            raise
        principal = Principal("application", client.client_id, frozenset({permission}), "secret")
        return msgspec.structs.replace(self.call, principal=principal)


Handler = Callable[[Asked], Awaitable[Answer]]


class Row(Struct, frozen=True):
    """One path with its methods, and the operation that it speaks of."""

    methods: tuple[str, ...]
    path: str
    operation: str
    handler: Handler


async def issue(asked: Asked) -> Answer:
    """A token (RFC 6749 sections 4.1.3, 4.4 and 6)."""
    form = asked.form
    params = IssueToken(
        grant_type=form.get("grant_type", ""),
        client_id=asked.shown.client_id,
        client_secret=asked.shown.secret,
        scope=form.get("scope"),
        code=form.get("code"),
        redirect_uri=form.get("redirect_uri"),
        code_verifier=form.get("code_verifier"),
        refresh_token=form.get("refresh_token"),
        strict=True,
        form={name: value for name, value in form.items() if name != "client_secret"},
    )
    issued: IssuedToken = await asked.desk.run("tokens.issue", params, asked.call)
    members = {
        "access_token": issued.access_token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in,
        "refresh_token": issued.refresh_token,
        "scope": issued.scope,
    }
    return answer({name: value for name, value in members.items() if value is not None})


async def revoke(asked: Asked) -> Answer:
    """The end of one of the client's own tokens and of its family (RFC 7009)."""
    call = await asked.client("tokens.revoke", "tokens:manage")
    # By its handle: what only looks like a handle is a token here.
    presented = handle(digest(_token(asked)))
    done: Revoked = await asked.desk.run("tokens.revoke", RevokeToken(presented, call.principal.name, True), call)
    if done.foreign:
        return error(400, "invalid_grant", "The token is another client's")
    return Answer(200, b"", (*NO_STORE[1:], *applied(call)))


async def introspect(asked: Asked) -> Answer:
    """What a token is (RFC 7662): a client's own, or any for an operator."""
    call, own = await _looking(asked)
    state: TokenState = await asked.desk.run("tokens.check", CheckToken(_token(asked), True), call)
    if not state.active or (own and state.client_id != own):
        return Answer(200, INACTIVE, NO_STORE)
    members = {
        "active": True,
        "scope": state.scope,
        "client_id": state.client_id,
        "sub": state.user or None,
        "username": state.user or None,
        "token_type": "Bearer" if state.kind == "access" else None,
        "exp": state.expires // SECOND,
        "iat": state.issued // SECOND,
        "iss": asked.issuer,
    }
    return answer({name: value for name, value in members.items() if value is not None})


async def _looking(asked: Asked) -> tuple[Call, str]:
    """Who looks, and the client whose tokens alone are seen (empty: all are)."""
    if asked.shown.client_id or asked.shown.secret:
        call = await asked.client("tokens.check", "tokens:read")
        return call, call.principal.name
    if credentials.trusted(asked.desk, asked.request):
        principal = Principal("network", asked.request.peer, frozenset({"tokens:read"}), "network")
    elif asked.request.public:
        raise Unauthenticated("client.invalid", "The client does not authenticate itself")
    else:
        principal = await credentials.operator(asked.desk, asked.request)
    call = msgspec.structs.replace(asked.call, principal=principal)
    allow(asked.desk.registry.get("tokens.check"), call)
    return call, ""


def _token(asked: Asked) -> str:
    if "token" not in asked.form:
        raise Invalid("parameter.missing", "The parameter token is missing")
    return asked.form["token"]


async def metadata(asked: Asked) -> Answer:
    """What there is, and where (RFC 8414). Only what works is listed."""
    grants = [each for each in BUILT_IN_GRANTS if each != "password"]
    methods = ["client_secret_basic", "client_secret_post", "none"]
    members = {
        "issuer": asked.issuer,
        "authorization_endpoint": f"{asked.issuer}{authorize.PATH}",
        "token_endpoint": f"{asked.issuer}/oauth20/token",
        "revocation_endpoint": f"{asked.issuer}/oauth20/revoke",
        "introspection_endpoint": f"{asked.issuer}/oauth20/introspect",
        "jwks_uri": f"{asked.issuer}/oauth20/jwks",
        "scopes_supported": await _scopes(asked),
        "response_types_supported": ["code"],
        "grant_types_supported": [*grants, *sorted(asked.desk.control.rules.custom_grants)],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "authorization_response_iss_parameter_supported": True,
    }
    return Answer(200, msgspec.json.encode(members), PUBLIC_FOR_A_WHILE)


async def resource(asked: Asked) -> Answer:
    """What the gateway protects, and who gives tokens for it (RFC 9728)."""
    name = str(asked.desk.settings().oauth.resource)
    if not name:
        return NOT_FOUND
    members = {
        "resource": name,
        "authorization_servers": [asked.issuer],
        "scopes_supported": await _scopes(asked),
        "bearer_methods_supported": ["header"],
    }
    return Answer(200, msgspec.json.encode(members), PUBLIC_FOR_A_WHILE)


async def jwks(asked: Asked) -> Answer:
    """The keys that verify what Ostiary signs, the one that signs first (RFC 7517 section 5)."""
    keys = await asked.desk.control.keys.published("oauth")
    body = b'{"keys":[%s]}' % b",".join(key.public.encode() for key in keys)
    return Answer(200, body, (("Content-Type", "application/jwk-set+json"), *PUBLIC_FOR_A_WHILE[1:]))


async def ask(asked: Asked) -> Answer:
    """Where a user allows something to a client application."""
    return await authorize.answer(asked.desk, asked.request, asked.call, asked.issuer)


async def _scopes(asked: Asked) -> list[str]:
    reader = msgspec.structs.replace(asked.call, principal=Principal("nobody", "", frozenset({"scopes:read"})))
    return [scope.scope for scope in await asked.desk.run("scopes.list", ListScopes(limit=10_000), reader)]


def answer(members: dict[str, object]) -> Answer:
    """200 and an object that nobody may store."""
    return Answer(200, msgspec.json.encode(members), NO_STORE)


GET, POST = ("GET", "HEAD"), ("POST",)
ROWS = (
    Row((*GET, *POST), authorize.PATH, "codes.authorize", ask),
    Row(POST, "/oauth20/token", "tokens.issue", issue),
    Row(POST, "/oauth20/revoke", "tokens.revoke", revoke),
    Row(POST, "/oauth20/introspect", "tokens.check", introspect),
    Row(GET, "/oauth20/jwks", "", jwks),
    Row(GET, METADATA, "", metadata),
    Row(GET, RESOURCE, "", resource),
)
PATHS = {row.path: row for row in ROWS}


class Oauth:
    """The standards' surface. `issuer` is Ostiary's own name where the settings give none."""

    prefixes = tuple(PATHS)
    faces_clients = True

    def __init__(self, desk: Desk, issuer: Callable[[], str]) -> None:
        self.desk = desk
        self._issuer = issuer

    def room(self, request: Request) -> int:
        return ROOM

    async def answer(self, request: Request) -> Answer:
        row = PATHS.get(request.path)
        if row is None:
            return NOT_FOUND
        if OAUTH in self.desk.control.services.stopped:
            return STOPPED
        if request.method not in row.methods:
            return error(405, "invalid_request", "The method is not allowed", (("Allow", ", ".join(row.methods)),))
        try:
            return await row.handler(self._asked(row, request))
        except Refusal as refusal:
            return refused(refusal)

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return error(status, "invalid_request", reason)

    def _asked(self, row: Row, request: Request) -> Asked:
        issuer = str(self.desk.settings().oauth.issuer) or self._issuer()
        call = call_of(request, NOBODY, "oauth")
        if row.methods != POST:
            return Asked(self.desk, request, issuer, call, {}, Shown())
        form = read(request)
        return Asked(self.desk, request, issuer, call, form, shown(request, form))
