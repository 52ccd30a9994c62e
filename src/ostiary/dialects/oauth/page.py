"""The pages that people see: plain HTML without script. Every value in them is escaped here."""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape

from msgspec import Struct

from ostiary.core.oauth import Application, Scope
from ostiary.dialects.message import Answer

Headers = tuple[tuple[str, str], ...]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --quiet: #59636f; --back: #eef1f4; --card: #fff; --line: #c6cdd5;
  --act: #0b5cad; --on-act: #fff; --bad: #a3182b; --bad-back: #fdecee; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebef; --quiet: #a5afba; --back: #14181d; --card: #1e242b; --line: #4a545f;
    --act: #7db7f0; --on-act: #10202f; --bad: #ffb3bc; --bad-back: #43181f; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; min-height: 100vh; display: grid; place-items: center; background: var(--back);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { width: 100%; max-width: 26rem; padding: 1.75rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .75rem; overflow-wrap: anywhere; }
h1 { margin: 0 0 .5rem; font-size: 1.4rem; line-height: 1.25; }
p { margin: 0 0 1rem; }
.quiet { color: var(--quiet); font-size: .9rem; }
.bad { padding: .6rem .8rem; border-radius: .4rem; background: var(--bad-back); color: var(--bad); }
main > :last-child { margin-bottom: 0; }
form + p { margin-top: 1rem; }
label { display: block; font-weight: 600; margin-bottom: .35rem; }
input { width: 100%; margin-bottom: 1rem; padding: .6rem .7rem; font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--quiet); border-radius: .4rem; }
ul { margin: 0 0 1rem; padding: 0; list-style: none; border-top: 1px solid var(--line); }
li { padding: .5rem 0; border-bottom: 1px solid var(--line); }
li b { display: block; }
.row { display: flex; flex-wrap: wrap; gap: .6rem; }
button { flex: 1 1 8rem; padding: .65rem 1rem; font: inherit; font-weight: 600; border: 1px solid var(--act);
  border-radius: .4rem; background: var(--card); color: var(--act); cursor: pointer; }
button.first { background: var(--act); color: var(--on-act); }
button.link { flex: none; padding: 0; border: 0; background: none; font-size: inherit; text-decoration: underline; }
:focus-visible { outline: 3px solid var(--act); outline-offset: 2px; }
"""
_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
_PLAIN_HOST = re.compile(r"(https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?)(?:[/?].*)?", re.ASCII | re.DOTALL)

PRIVATE: Headers = (("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"))
_HTML: Headers = (
    ("Content-Type", "text/html; charset=utf-8"), *PRIVATE,
    ("X-Frame-Options", "DENY"), ("X-Content-Type-Options", "nosniff"),
)  # fmt: skip


class Form(Struct, frozen=True):
    """What every form on a page takes along."""

    action: str
    """A path with the request's parameters in its query."""
    csrf: str
    redirect_uri: str
    application: Application

    @property
    def start(self) -> str:
        """The beginning of the form."""
        hidden = f'<input type="hidden" name="csrf" value="{escape(self.csrf)}">'
        return f'<form method="post" action="{escape(self.action)}">{hidden}'


def sign_in(form: Form, problem: str = "", name: str = "") -> str:
    """The page that asks who is there; `problem` says why it does so again, `name` is what was typed before."""
    wrong = ' aria-invalid="true" aria-describedby="problem"' if problem else ""
    first, second = ("", " autofocus") if name else (" autofocus", "")
    return _document(
        "Sign in",
        f"""<h1>Sign in</h1>
<p>to go on to <b><bdi>{escape(form.application.name)}</bdi></b></p>
{_alert(problem)}{form.start}
<label for="username">Name or e-mail address</label>
<input id="username" name="username" type="text" value="{escape(name)}" autocomplete="username" autocapitalize="none"
 spellcheck="false" maxlength="254" required{first}{wrong}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="1024"
 required{second}{wrong}>
<div class="row"><button class="first" name="act" value="sign_in">Sign in</button>
<button name="act" value="deny" formnovalidate>Cancel</button></div>
</form>""",
    )


def consent(form: Form, user: str, scopes: list[Scope], problem: str = "") -> str:
    """The page that asks the user."""
    name = escape(form.application.name)
    described = f"<p>{escape(form.application.description)}</p>" if form.application.description else ""
    items = "".join(f"<li><b>{escape(each.scope)}</b>{escape(each.description)}</li>" for each in scopes)
    return _document(
        "Allow access",
        f"""<h1>Allow <bdi>{name}</bdi> access?</h1>
{_alert(problem)}{described}{form.start}
<p class="quiet">You are signed in as <b><bdi>{escape(user)}</bdi></b>.
<button class="link" name="act" value="sign_out">Sign out</button></p>
<p id="what"><bdi>{name}</bdi> would be allowed:</p>
<ul aria-labelledby="what">{items}</ul>
<div class="row"><button class="first" name="act" value="allow">Allow</button>
<button name="act" value="deny">Deny</button></div>
</form>
<p class="quiet">Either way you go on to <b>{escape(place(form.redirect_uri))}</b>.</p>""",
    )


def problem(title: str, text: str) -> str:
    """A page that goes no further."""
    return _document(title, f'<h1>{escape(title)}</h1><p role="alert">{escape(text)}</p>')


def html(status: int, text: str, redirect_uri: str = "", headers: Headers = ()) -> Answer:
    """A page as an answer; its form may lead to `redirect_uri` and nowhere else."""
    goal = f" {_source(redirect_uri)}" if redirect_uri else ""
    policy = (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'{goal}; frame-ancestors 'none'; "
        "base-uri 'none'"
    )
    return Answer(status, text.encode(), (*_HTML, ("Content-Security-Policy", policy), *headers))


def place(redirect_uri: str) -> str:
    """Where a URI leads, for a person."""
    scheme, _, rest = redirect_uri.partition(":")
    host = re.split(r"[/?]", rest.removeprefix("//"))[0].rpartition("@")[2]
    return host if rest.startswith("//") and host else f"an application on this device ({scheme})"


def _source(redirect_uri: str) -> str:
    """The URI as a source of form-action, which browsers apply to what a POST redirects to as well.

    Host sources know no addresses of IPv6 and no private-use schemes: there it is the scheme.
    """
    match = _PLAIN_HOST.fullmatch(redirect_uri)
    return match[1] if match else redirect_uri.partition(":")[0] + ":"


def _alert(problem: str) -> str:
    return f'<p class="bad" id="problem" role="alert">{escape(problem)}</p>' if problem else ""


def _document(title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
