"""Tokens as ApiFest speaks of them (apifest.md B4 to B7): issued, validated, listed, revoked."""

from ostiary.control.tokens import (
    CheckToken,
    IssuedToken,
    IssueToken,
    ListTokens,
    Revoked,
    RevokeSubject,
    RevokeToken,
    TokenState,
)
from ostiary.core.oauth import BUILT_IN_GRANTS
from ostiary.dialects.apifest.asked import Asked, Row
from ostiary.dialects.apifest.bodies import object_in
from ostiary.dialects.apifest.words import (
    CLIENT,
    INVALID_TOKEN,
    UNSUPPORTED_GRANT,
    Said,
    answer,
    encoded,
    error,
    missing,
)
from ostiary.dialects.credentials import basic
from ostiary.dialects.message import FORM, Answer, parse_pairs, repeated

PAGE = 10_000
NEEDS: dict[str, tuple[str, ...]] = {
    "authorization_code": ("code", "redirect_uri"),
    "refresh_token": ("refresh_token",),
    "password": ("username", "password"),
}
"""What a grant's request must bring."""


async def issue(asked: Asked) -> Answer:
    """A token for a client application that shows its secret."""
    form = _form(asked)
    for name in ("client_id", "client_secret", "grant_type"):
        if not form.get(name):
            raise missing(name)
    grant = form["grant_type"]
    if grant not in BUILT_IN_GRANTS and grant not in asked.desk.settings().oauth.grants:
        raise Said(UNSUPPORTED_GRANT)
    for name in NEEDS.get(grant, ()):
        if not form.get(name):
            raise missing(name)
    params = IssueToken(grant, form["client_id"], form["client_secret"], form.get("scope"))
    issued: IssuedToken = await asked.run("tokens.issue", params)
    shown = {
        "access_token": issued.access_token,
        "token_type": issued.token_type,
        "expires_in": str(issued.expires_in),
        "scope": issued.scope,
    }
    return encoded(shown)


def _form(asked: Asked) -> dict[str, str]:
    """The form; client id and secret from Basic if the form has neither (a malformed header counts as none)."""
    pairs = parse_pairs(asked.request.body.decode(errors="replace"))
    name = repeated(pairs)
    if name is not None:
        raise twice(name)
    form = dict(pairs)
    if "client_id" not in form and "client_secret" not in form:
        pair = basic(asked.request)
        if pair is not None:
            form["client_id"], form["client_secret"] = pair
    return form


def twice(name: str) -> Said:
    """A parameter that is there more than once."""
    return Said(error(400, f"parameter {name} is given more than once"))


async def validate(asked: Asked) -> Answer:
    """What a token is; only one that passes is told of."""
    token = asked.query.get("token", "")
    if not token:
        raise missing("token")
    state: TokenState = await asked.run("tokens.check", CheckToken(token))
    if not state.active:
        raise Said(INVALID_TOKEN)
    return encoded(shown(state, token, reveal=asked.settings.validate_reveals_refresh))


async def list_(asked: Asked) -> Answer:
    """The live tokens of a user and a client, oldest first, by their handles."""
    for name in ("client_id", "user_id"):
        if not asked.query.get(name):
            raise missing(name)
    found: list[TokenState] = []
    page: list[TokenState] | None = None
    while page is None or len(page) == PAGE:
        after = found[-1].number if found else 0
        params = ListTokens(asked.query["client_id"], asked.query["user_id"], PAGE, after)
        page = await asked.run("tokens.list", params)
        found += page or []
    return encoded([shown(state, state.handle) for state in found])


async def revoke(asked: Asked) -> Answer:
    """Revoke one token, by its text or its handle."""
    members = object_in(asked.request.body)
    token, client = members.get("access_token"), members.get("client_id")
    if not isinstance(token, str) or not token:
        raise missing("access_token")
    if client is not None and not isinstance(client, str):
        raise Said(CLIENT)
    done: Revoked = await asked.run("tokens.revoke", RevokeToken(token, client))
    status = 404 if asked.settings.strict_status and not done.revoked else 200
    told = str(done.revoked).lower()
    body = f'{{"revoked":"{told}"}}' if asked.settings.revoke_as_string else f'{{"revoked":{told}}}'
    return answer(status, body, asked.receipt())


async def revoke_subject(asked: Asked) -> Answer:
    """Revoke everything of a user."""
    user = object_in(asked.request.body).get("user_id")
    if not isinstance(user, str) or not user:
        raise missing("user_id")
    await asked.run("tokens.revoke_subject", RevokeSubject(user))
    return answer(200, '{"revoked":"true"}', asked.receipt())


def shown(state: TokenState, token: str, *, reveal: bool = True) -> dict[str, object]:
    """The object, in ApiFest's order. There are no refresh tokens and no codes yet: their fields are empty."""
    members: dict[str, object] = {
        "token": token,
        "refreshToken": "" if reveal else None,
        "expiresIn": str(state.expires_in),
        "type": "Bearer",
        "scope": state.scope,
        "valid": state.active,
        "clientId": state.client_id,
        "codeId": "",
        "userId": state.user,
        "applicationDetails": state.application_details or None,
        "details": state.details or None,
        "created": state.issued // 1000,
        "refreshExpiresIn": str(state.expires_in),
    }
    return {name: value for name, value in members.items() if value is not None}


ROWS = (
    Row("POST", "/oauth20/tokens", "tokens.issue", issue, FORM, clients=True),
    Row("GET", "/oauth20/tokens", "tokens.list", list_),
    Row("DELETE", "/oauth20/tokens", "tokens.revoke_subject", revoke_subject),
    Row("GET", "/oauth20/tokens/validate", "tokens.check", validate),
    Row("POST", "/oauth20/tokens/revoke", "tokens.revoke", revoke),
)
