"""Authorization codes: given for a user for whom the caller vouches."""

from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.digest import digest
from ostiary.core.oauth import CodeRequest, hex_ok, location


class IssueCode(Struct, frozen=True):
    """A request for an authorization code."""

    client_id: Annotated[str, Meta(description="id of the client application")]
    response_type: Annotated[str, Meta(description="code")] = "code"
    redirect_uri: Annotated[str | None, Meta(description="where the code is sent; absent: to the registered one")] = (
        None
    )
    scope: Annotated[
        str | None, Meta(description="names separated by one space; absent or empty: all of the application's")
    ] = None
    state: Annotated[str | None, Meta(description="handed back as it is")] = None
    user: Annotated[str, Meta(description="for whom the caller vouches; empty: nobody in particular")] = ""
    code_challenge: Annotated[str | None, Meta(description="of PKCE: 43 base64url characters")] = None
    code_challenge_method: Annotated[str | None, Meta(description="S256, if there is a challenge")] = None


class IssuedCode(Struct, frozen=True):
    """Where to send the user agent; the code, shown only here, is in its query."""

    redirect_uri: str


@operation("codes.issue", permission="tokens:issue", target="client_id")
async def issue(control: Control, call: Call, params: IssueCode) -> IssuedCode:
    """Issue an authorization code for a user."""
    code = control.entropy(32).hex()
    rules = control.rules
    request = CodeRequest(
        client_id=params.client_id if hex_ok(params.client_id) else "",
        digest=digest(code),
        family=control.entropy(16),
        now=control.clock(),
        default_grants=rules.default_grants,
        lifetime=rules.code_lifetime,
        response_type=params.response_type,
        redirect_uri=params.redirect_uri,
        any_redirect=rules.any_redirect,
        scope=params.scope,
        user=params.user,
        challenge=params.code_challenge,
        challenge_method=params.code_challenge_method,
    )
    redirect_uri = await control.tokens.issue_code(request, call.done(request.now))
    return IssuedCode(location(redirect_uri, code=code, state=params.state))
