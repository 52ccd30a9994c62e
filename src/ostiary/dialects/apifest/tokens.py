"""Tokens as ApiFest speaks of them (apifest.md B4 to B7): issued, validated, listed, revoked."""

from ostiary.control.plugged import Failed
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
from ostiary.core.oauth import BUILT_IN_GRANTS, grants
from ostiary.core.refusal import Unauthenticated
from ostiary.dialects.apifest.asked import Asked, Row
from ostiary.dialects.apifest.bodies import object_in
from ostiary.dialects.apifest.words import (
    CLIENT,
    HEADERS,
    INVALID_TOKEN,
    UNSUPPORTED_GRANT,
    Said,
    Words,
    answer,
    encoded,
    error,
    missing,
)
from ostiary.dialects.credentials import basic
from ostiary.dialects.message import FORM, Answer, parse_pairs, repeated

PAGE = 10_000
LONGEST_NAME = 42
"""Characters of a parameter's name; what is longer could be a token or a secret in the wrong place."""
NEEDS: dict[str, tuple[str, ...]] = {**grants.NEEDS, "authorization_code": ("code", "redirect_uri")}
"""What a grant's request must bring here."""
CANNOT = (401, '{"error": "cannot authenticate user"}')
ISSUE_WORDS: Words = {
    "login.refused": (401, '{"error": "invalid username/password"}'),
    "login.inactive": CANNOT,
    "login.second_factor": CANNOT,
    "user.refused": (401, '{"error": "invalid username/password"}'),
    "user.undecided": CANNOT,
    "code.invalid": (400, '{"error": "invalid auth_code"}'),
    "code.foreign": CLIENT,
    "refresh.invalid": (400, '{"error":"invalid refresh token"}'),
}


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
    try:
        issued: IssuedToken = await asked.run("tokens.issue", _params(form))
    except Failed as failed:
        return _failed(failed)
    except Unauthenticated as refusal:
        if refusal.code == "user.refused" and grant != "password":
            raise Said(CANNOT) from None
        raise
    return encoded(issued_members(issued))


def _params(form: dict[str, str]) -> IssueToken:
    return IssueToken(
        grant_type=form["grant_type"],
        client_id=form["client_id"],
        client_secret=form["client_secret"],
        scope=form.get("scope"),
        code=form.get("code"),
        redirect_uri=form.get("redirect_uri"),
        code_verifier=form.get("code_verifier"),
        refresh_token=form.get("refresh_token"),
        username=form.get("username"),
        password=form.get("password"),
        form={name: value for name, value in form.items() if name != "client_secret"},
    )


def issued_members(issued: IssuedToken) -> dict[str, str]:
    """The members of the answer, in order; lifetimes are texts."""
    members = {
        "access_token": issued.access_token,
        "refresh_token": issued.refresh_token,
        "token_type": issued.token_type,
        "expires_in": str(issued.expires_in),
        "scope": issued.scope,
        "refresh_expires_in": None if issued.refresh_expires_in is None else str(issued.refresh_expires_in),
    }
    return {name: value for name, value in members.items() if value is not None}


def _failed(failed: Failed) -> Answer:
    """A plug-in's own refusal."""
    if not failed.own:
        return answer(*CANNOT)
    if failed.body is None:
        said = error(failed.status, failed.message) if failed.message else (failed.status, CANNOT[1])
        return answer(*said, tuple(failed.headers.items()))
    own = {name.lower() for name in failed.headers}
    standing = tuple(each for each in HEADERS if each[0].lower() not in own)
    return Answer(failed.status, failed.body, (*standing, *failed.headers.items()))


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
    """A parameter that is there more than once; what is hardly a name is not told again."""
    shown = name if len(name) <= LONGEST_NAME else "name"
    return Said(error(400, f"parameter {shown} is given more than once"))


async def validate(asked: Asked) -> Answer:
    """What a token is; only one that passes is told of."""
    token = asked.query.get("token", "")
    if not token:
        raise missing("token")
    state: TokenState = await asked.run("tokens.check", CheckToken(token))
    if not state.active:
        raise Said(INVALID_TOKEN)
    return encoded(shown(state, token, state.refresh_token if asked.settings.validate_reveals_refresh else None))


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
    return encoded([shown(state, state.handle, state.refresh_handle) for state in found])


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


def shown(state: TokenState, token: str, refresh: str | None) -> dict[str, object]:
    """The object, in ApiFest's order; `refresh` stands for its refresh token."""
    lasting = state.expires_in if state.refresh_expires_in is None else state.refresh_expires_in
    members: dict[str, object] = {
        "token": token,
        "refreshToken": refresh,
        "expiresIn": str(state.expires_in),
        "type": "Bearer",
        "scope": state.scope,
        "valid": state.active,
        "clientId": state.client_id,
        "codeId": state.code_id,
        "userId": state.user,
        "applicationDetails": state.application_details or None,
        "details": state.details or None,
        "created": state.issued // 1000,
        "refreshExpiresIn": str(lasting),
    }
    return {name: value for name, value in members.items() if value is not None}


ROWS = (
    Row("POST", "/oauth20/tokens", "tokens.issue", issue, FORM, ISSUE_WORDS, clients=True),
    Row("GET", "/oauth20/tokens", "tokens.list", list_),
    Row("DELETE", "/oauth20/tokens", "tokens.revoke_subject", revoke_subject),
    Row("GET", "/oauth20/tokens/validate", "tokens.check", validate),
    Row("POST", "/oauth20/tokens/revoke", "tokens.revoke", revoke),
)
