"""The authorization endpoint: where a user's browser asks for a code, and the user signs in and allows it.

    parameters -> client and redirect_uri (else 400, and no redirect) -> the rest (else back with the error)
      GET:  who is there? -> allowed before? -> back with a code, or a page
      POST: is it our page that asks? -> sign in, sign out, allow, deny

(RFC 6749 section 4.1, RFC 9700 sections 2.1 and 4, RFC 9207.) Each POST begins anew with all checks; a log-in or the
end of one leads back to the same request by GET. Two cookies, neither of which is a credential anywhere else:
`ostiary_login` names the log-in, `ostiary_form` the page that asks for one. A form's CSRF value belongs to its cookie,
and both cookies are new after a log-in, so that nobody can prepare them in somebody's browser.
"""

import re
from urllib.parse import quote, urlencode

from msgspec import Struct
from msgspec.structs import replace

from ostiary.control import codes
from ostiary.control.call import Call
from ostiary.control.codes import Authorize, IssuedCode
from ostiary.control.consents import SignIn, sign_in, sign_out, signed_in
from ostiary.core.oauth import location
from ostiary.core.refusal import Forbidden, Invalid, Limited, Refusal, TooLarge, Unauthenticated, Unavailable
from ostiary.dialects.credentials import foreign
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import FORM, Answer, Pairs, Request, parse_pairs, repeated
from ostiary.dialects.oauth import page
from ostiary.store.ports import BrowserLogin

PATH = "/oauth20/authorize"
PARAMETERS = (
    "client_id", "response_type", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method",
)  # fmt: skip
ERRORS = {
    "response_type.unsupported": "unsupported_response_type",
    "challenge.invalid": "invalid_request",
    "scope.not_valid": "invalid_scope",
    "grant.unauthorized": "unauthorized_client",
    "user.invalid": "access_denied",
    "user.disabled": "access_denied",
}
"""RFC 6749 section 4.1.2.1."""
STATUSES: dict[type[Refusal], int] = {Forbidden: 403, TooLarge: 413, Limited: 429, Unavailable: 503, Refusal: 400}
BOUND = {"sign_in": ("form",), "sign_out": ("login",), "allow": ("login",), "deny": ("login", "form")}
"""Whose CSRF value each button of a page brings."""
WORDS = {
    "client.invalid": "The application that sent you here is not known, or not active.",
    "redirect_uri.invalid": "The application that sent you here asks for an answer at an address that is not its own.",
}
EXPIRED = "This page was no longer valid. Please try again."
_SECRET = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Visit(Struct, frozen=True):
    """One request of a browser, read."""

    desk: Desk
    request: Request
    call: Call
    params: Authorize
    form: dict[str, str]
    """What a page's form brings beside the parameters."""
    asked: codes.Asked

    @property
    def here(self) -> str:
        """The same request once more."""
        given = {name: getattr(self.params, name) for name in PARAMETERS}
        return f"{PATH}?{urlencode({name: value for name, value in given.items() if value}, quote_via=quote)}"

    def cookie(self, kind: str) -> str:
        """The secret in a cookie of ours that is there exactly once, else empty."""
        headers = self.request.headers.get("cookie", [])
        pairs = (pair.strip(" \t").partition("=") for header in headers for pair in header.split(";"))
        found = [value for name, _, value in pairs if name == self._cookie(kind)]
        return found[0] if len(found) == 1 and _SECRET.fullmatch(found[0]) else ""

    def set_cookie(self, kind: str, secret: str, attributes: str = "") -> tuple[str, str]:
        """The header that sets a cookie, to be sent to this one path by top-level navigation and from our pages."""
        secure = "; Secure" if self.request.secure else ""
        return "Set-Cookie", f"{self._cookie(kind)}={secret}; HttpOnly; SameSite=Lax; Path={PATH}{secure}{attributes}"

    def _cookie(self, kind: str) -> str:
        """By the prefix a browser sees to it that no other site and no plain http sets it."""
        return f"{'__Secure-' if self.request.secure else ''}ostiary_{kind}"

    def back(self, status: int, error: str) -> Answer:
        """To the client application, with an error."""
        uri = location(self.asked.redirect_uri, error=error, state=self.params.state, iss=self.params.issuer)
        return redirect(status, uri)


async def answer(desk: Desk, request: Request, call: Call, issuer: str) -> Answer:
    """The answer, always for a person's eyes or a redirect."""
    try:
        if request.method == "POST" and elsewhere(request):
            return page.html(403, page.problem("Not allowed", "Another web site has sent this form."))
        visit = await read(desk, request, call, issuer)
        status = 303 if request.method == "POST" else 302
        if visit.asked.refusal is not None:
            return visit.back(status, ERRORS[visit.asked.refusal.code])
        return await (post(visit) if status == 303 else get(visit))
    except Refusal as refusal:
        return refused(refusal)


def elsewhere(request: Request) -> bool:
    """Whether a page of another origin made the browser send this.

    Our own pages send `Origin: null`, because they ask for no referrer (Fetch, "append a request Origin header"): that
    says nothing, and Sec-Fetch-Site and the CSRF value decide.
    """
    origins = [origin for origin in request.headers.get("origin", []) if origin != "null"]
    return foreign(replace(request, headers=request.headers | {"origin": origins}))


async def read(desk: Desk, request: Request, call: Call, issuer: str) -> Visit:
    """The request, with its client and redirect_uri. Refuses what goes to no client application."""
    pairs = request.pairs() + sent(request)
    if repeated(pairs) is not None:
        raise Invalid("form.repeated", "A parameter is given more than once.")
    given = {name: value for name, value in pairs if value}
    params = Authorize(given.get("client_id", ""), issuer=issuer)
    params = replace(params, **{name: given[name] for name in PARAMETERS if name in given})
    form = {name: value for name, value in pairs if name not in PARAMETERS}
    return Visit(desk, request, call, params, form, await codes.asked(desk.control, params))


def sent(request: Request) -> Pairs:
    """The pairs of a form."""
    if request.oversized:
        raise TooLarge("form.large", "The form is too large.")
    if request.method != "POST":
        return []
    if request.media_type() != FORM:
        raise Invalid("form.media", f"The media type must be {FORM}.")
    return parse_pairs(request.body.decode(errors="replace"))


async def get(visit: Visit) -> Answer:
    """A code where nobody needs to be asked, else a page."""
    login = await signed_in(visit.desk.control, visit.cookie("login"))
    if login is not None:
        application, scope = visit.asked.application, visit.params.scope
        if await codes.allowed(visit.desk.control, application, scope, login.user):
            return await code(visit, 302, allow=False)
    return await show(visit, login, 200)


async def post(visit: Visit) -> Answer:
    """What a button of a page asks for."""
    login = await signed_in(visit.desk.control, visit.cookie("login"))
    act = visit.form.get("act", "")
    if not ours(visit, act):
        return await show(visit, login, 403, EXPIRED)
    if act == "deny":
        return visit.back(303, "access_denied")
    if act == "sign_in":
        return await enter(visit)
    if act == "sign_out":
        await sign_out(visit.desk.control, visit.call, visit.cookie("login"))
        return redirect(303, visit.here, (visit.set_cookie("login", "", "; Max-Age=0"),))
    return redirect(303, visit.here) if login is None else await code(visit, 303, allow=True)


def ours(visit: Visit, act: str) -> bool:
    """Whether the form is from a page that was made for this browser."""
    csrf, shown = visit.desk.control.csrf, visit.form.get("csrf", "")
    return any(csrf.holds(kind, visit.cookie(kind), shown) for kind in BOUND.get(act, ()))


async def enter(visit: Visit) -> Answer:
    """Sign in, and ask again; or the page again, with the reason."""
    control, form = visit.desk.control, visit.form
    name = form.get("username", "")
    shown = SignIn(name, form.get("password", ""), visit.params.client_id, visit.params.scope or "")
    try:
        secret = await sign_in(control, visit.call, shown, visit.cookie("login"))
    except (Unauthenticated, Forbidden, Limited) as refusal:
        status = 429 if isinstance(refusal, Limited) else 403
        return await show(visit, None, status, refusal.message, name, again(refusal))
    life = f"; Max-Age={control.rules.login_lifetime}"
    cookies = visit.set_cookie("login", secret, life), visit.set_cookie("form", "", "; Max-Age=0")
    return redirect(303, visit.here, cookies)


async def code(visit: Visit, status: int, *, allow: bool) -> Answer:
    """Back with a code."""
    params = replace(visit.params, browser=visit.cookie("login"), allow=allow)
    try:
        issued: IssuedCode = await visit.desk.run("codes.authorize", params, visit.call)
    except Refusal as refusal:
        if refusal.code not in ERRORS:
            raise
        return visit.back(status, ERRORS[refusal.code])
    return redirect(status, issued.redirect_uri)


async def show(
    visit: Visit,
    login: BrowserLogin | None,
    status: int,
    problem: str = "",
    name: str = "",
    headers: page.Headers = (),
) -> Answer:
    """The page that is due: who is there, or may this be."""
    control, kind = visit.desk.control, "form" if login is None else "login"
    secret = visit.cookie(kind)
    if not secret:
        secret = control.entropy(32).hex()
        headers += (visit.set_cookie(kind, secret),)
    asked = visit.asked
    form = page.Form(visit.here, control.csrf.token(kind, secret), asked.redirect_uri, asked.application)
    if login is None:
        text = page.sign_in(form, problem, name)
    else:
        scopes = await codes.wanted(control, asked.application, visit.params.scope)
        text = page.consent(form, login.user, scopes, problem)
    return page.html(status, text, asked.redirect_uri, headers)


def redirect(status: int, uri: str, headers: page.Headers = ()) -> Answer:
    """To another place, which is not told where it came from."""
    return Answer(status, b"", (("Location", uri), *page.PRIVATE, *headers))


def refused(refusal: Refusal) -> Answer:
    """A page for what goes to no client application."""
    status = next(STATUSES[each] for each in type(refusal).__mro__ if each in STATUSES)
    title = "Temporarily unavailable" if status == 503 else "This request cannot be answered"
    return page.html(status, page.problem(title, WORDS.get(refusal.code, refusal.message)), headers=again(refusal))


def again(refusal: Refusal) -> page.Headers:
    """When to come again, where that helps."""
    if isinstance(refusal, Limited | Unavailable):
        return (("Retry-After", str(refusal.retry_after)),)
    return ()
