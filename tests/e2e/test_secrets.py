"""No secret, token, code or password is found in anything that Ostiary writes down, or in what it refuses with.

A broad session with a node that logs all it can; each secret is also sent where it does not belong. Then everything
that the node wrote is searched for each of them, as it is and in the encodings in which it travels.
"""

import base64
import json
import secrets
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus, urlencode, urlsplit

from tests.e2e.crowd import FORM, Crowd, basic, bearer, form, request
from tests.e2e.house import URI, Answer, Backend, Node, configuration, serving

PASSWORD = "change-me-please-1"
LOUD = 'log: {level: DEBUG, access: "access.log"}'
SETTINGS = """reveal_client_secrets: true,
  default_grant_types: [authorization_code, client_credentials, refresh_token, password], """
MADE = ("access_token", "refresh_token", "code", "client secret")
"""Secrets as Ostiary makes them: known wherever they are seen."""
TOKEN, TOKENS = "/oauth20/token", "/oauth20/tokens"


def encodings(secret: str) -> Iterator[str]:
    """The forms in which a text travels."""
    text = secret.encode()
    yield from (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], text.hex())
    for shift in range(3):
        # What base64 makes of it inside a longer text, at any place: without the characters that its neighbours change.
        wide = base64.b64encode(b"\0" * shift + text).decode().rstrip("=")
        yield wide[4 if shift else 0 : len(wide) - 1]


class Session:
    """Asks, and remembers which secrets passed and what was refused."""

    def __init__(self, node: Node, inside: Crowd, outside: Crowd) -> None:
        self.node, self.inside, self.outside = node, inside, outside
        self.secrets: dict[tuple[str, int], str] = {("the owner's password", 0): PASSWORD}
        self.refused: list[tuple[bytes, Answer]] = []

    def keep(self, what: str, secret: str) -> str:
        """A secret that is to be searched for."""
        self.secrets[what, len(self.secrets)] = secret
        return secret

    def one_of_each(self) -> dict[str, str]:
        """The last of each kind."""
        return {what: secret for (what, _), secret in self.secrets.items()}

    async def ask(self, *requests: bytes, public: bool = False) -> Answer:
        """The last of their answers."""
        answers = await (self.outside if public else self.inside).answers(list(requests))
        self.refused += [pair for pair in zip(requests, answers, strict=True) if pair[1].status >= 400]
        assert [answer.body for answer in answers if answer.status >= 500] == []
        return answers[-1]

    async def code(self, client: dict[str, str], **more: str) -> str:
        query = urlencode({"response_type": "code", "client_id": client["client_id"], "user_id": "ann", **more})
        answer = await self.ask(request("GET", f"/oauth20/auth-codes?{query}"))
        return self.keep("code", parse_qs(urlsplit(answer.json["redirect_uri"]).query)["code"][0])

    async def issue(self, path: str, fields: dict[str, str], public: bool = False) -> dict[str, str]:
        answer = await self.ask(form(path, **fields), public=public)
        assert answer.status == 200, answer.body
        for name in ("access_token", "refresh_token"):
            if name in answer.json:
                self.keep(name, answer.json[name])
        return dict(answer.json)

    async def register(self, **more: object) -> dict[str, str]:
        wanted = {"name": "app", "scope": "basic", "redirect_uri": URI, **more}
        answer = await self.ask(request("POST", "/oauth20/applications", wanted))
        client: dict[str, str] = answer.json
        if "client_secret" not in more:
            self.keep("client secret", client["client_secret"])
        await self.ask(request("PUT", f"/oauth20/applications/{client['client_id']}", {"status": 1}))
        return client


async def every_grant(session: Session, client: dict[str, str]) -> None:
    """Tokens of every kind, used, refreshed, used up and revoked; wrong secrets among them."""
    verifier = session.keep("verifier", secrets.token_urlsafe(48))
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    plain = await session.code(client)
    proved = await session.code(client, code_challenge=challenge, code_challenge_method="S256")
    exchange = {"grant_type": "authorization_code", "redirect_uri": URI, **client}
    families = [
        await session.issue(TOKENS, {"code": plain, **exchange}),
        await session.issue(TOKEN, {"code": proved, "code_verifier": verifier, **exchange}, True),
        await session.issue(TOKENS, {"grant_type": "password", "username": "admin", "password": PASSWORD, **client}),
    ]
    alone = await session.issue(TOKENS, {"grant_type": "client_credentials", **client}, True)
    for family in families:
        again = {"grant_type": "refresh_token", "refresh_token": family["refresh_token"], **client}
        second = await session.issue(TOKEN, again)
        await session.ask(
            bearer("/closed", second["access_token"]), bearer("/open", second["access_token"]), public=True
        )
        await session.ask(form(TOKEN, **again), form(TOKENS, **again))
    await session.ask(
        form(TOKEN, **exchange, code=proved, code_verifier=verifier),
        request("GET", f"/oauth20/tokens/validate?token={alone['access_token']}"),
        form("/oauth20/introspect", token=alone["access_token"], **client),
        form("/oauth20/revoke", token=alone["access_token"], **client),
        request("POST", "/oauth20/tokens/revoke", {"access_token": families[0]["access_token"]}),
        request("GET", "/oauth20/applications"),
    )


async def wrong(session: Session, client: dict[str, str]) -> None:
    """Secrets that do not hold."""
    guess = session.keep("wrong secret", secrets.token_hex(32))
    word = session.keep("wrong password", 'p@ss w%rd/"ü+1')
    grant = {"client_id": client["client_id"], "client_secret": guess}
    await session.ask(
        form(TOKEN, grant_type="client_credentials", **grant),
        form(TOKENS, grant_type="client_credentials", **grant),
        form("/oauth20/introspect", token=guess, **grant),
        form(TOKENS, grant_type="password", username="admin", password=word, **client),
        request("GET", "/operations/tokens.list", Authorization=basic("admin", word)),
        request("GET", "/oauth20/scopes", Authorization=basic("admin", word)),
        request("DELETE", "/api/caches", Authorization=basic("admin", word)),
        bearer("/operations/tokens.list", guess),
        form(TOKENS, grant_type="refresh_token", refresh_token=guess, **client),
        form(TOKENS, grant_type="authorization_code", code=guess, redirect_uri=URI, **client),
    )
    await session.ask(bearer("/closed", guess), form(TOKEN, grant_type="client_credentials", **grant), public=True)


FORMS = (TOKEN, TOKENS, "/oauth20/revoke", "/oauth20/introspect", "/oauth20/authorize")
READ = ("/oauth20/tokens/validate", TOKENS, "/oauth20/auth-codes", "/oauth20/authorize", "/open", "/closed",
        "/operations/tokens.check", "/operations/audit.list", "/api/caches", "/metrics", "/nothing")  # fmt: skip
WRITTEN = (TOKEN, TOKENS, "/oauth20/tokens/revoke", "/oauth20/scopes", "/oauth20/applications", "/oauth20/revoke",
           "/operations/tokens.check", "/operations/tokens.issue", "/operations/tokens.revoke",
           "/operations/applications.create")  # fmt: skip
PROTECTED = ("/closed", "/oauth20/scopes", "/operations/tokens.list", "/oauth20/introspect", "/api/caches")


def misplaced(secret: str) -> Iterator[bytes]:
    """Requests with a secret where none belongs."""
    text = quote(secret, safe="")
    yield from in_queries(text)
    yield from in_headers(secret, text)
    yield from in_bodies(secret)
    yield from in_forms(secret, text)
    yield from in_heads(text)


def in_queries(text: str) -> Iterator[bytes]:
    for name in ("token", "access_token", "client_secret", "password", "user_id", "client_id"):
        for path in READ:
            yield request("GET", f"{path}?{name}={text}&{name}={text}")
            yield request("DELETE", f"{path}?{name}={text}")


def in_paths(text: str) -> Iterator[bytes]:
    """In paths, ids and names, but only of what Ostiary made: any other text there may be told again."""
    for path in READ:
        yield request("GET", f"{path}?{text}={text}&{text}={text}")
    for path in ("", "/closed", "/oauth20/tokens", "/oauth20/scopes", "/oauth20/applications", "/operations"):
        yield request("GET", f"{path}/{text}")
        yield request("DELETE", f"{path}/{text}")
        yield request("PUT", f"{path}/{text}", {"status": 1})
        yield form(f"{path}/{text}", client_id=text, client_secret="ab", token="ab", grant_type="client_credentials")
    for path in FORMS:
        yield form(path, client_id=text, client_secret="ab", token="ab", grant_type="client_credentials")
        yield form(path, **{text: text})
        yield request("POST", path, f"{text}&{text}=1".encode(), Content_Type=FORM)


def in_headers(secret: str, text: str) -> Iterator[bytes]:
    encoded = base64.b64encode(secret.encode()).decode()
    for value in (f"Bearer {text} {text}", f"Basic {text}", f"Basic {encoded}", text, basic("x", secret)):
        for path in PROTECTED:
            yield request("GET", path, Authorization=value)
            yield request("POST", path, {"token": secret}, Authorization=value)
    for name in ("Cookie", "X-Forwarded-For", "Content-Type", "Expect", "Origin", text):
        yield request("POST", "/oauth20/scopes", {"scope": "x"}, **{name: text})


def in_bodies(secret: str) -> Iterator[bytes]:
    shapes = (
        secret, [secret], {secret: "x"}, {"access_token": [secret]}, {"access_token": {secret: 1}},
        {"token": secret, "scope": 1}, {"client_secret": secret, "grant_type": secret}, {"user_id": [secret]},
        {"scope": [secret]}, {"name": [secret]}, {"description": {secret: secret}},
    )  # fmt: skip
    for body in shapes:
        for path in WRITTEN:
            yield request("POST", path, body, Authorization=basic("admin", PASSWORD))
            yield request("POST", path, json.dumps(body).encode()[:-1])


def in_forms(secret: str, text: str) -> Iterator[bytes]:
    for path in FORMS:
        for name in ("grant_type", "scope", "redirect_uri", "token", "response_type"):
            yield form(path, **{name: secret})
            yield form(path, **{"client_id": "ab", "client_secret": secret, "grant_type": "password", name: secret})
        yield request("POST", path, f"{text}&=%zz{text}".encode(), Content_Type=FORM)
        yield request("POST", path, text.encode(), Content_Type=text)


def in_heads(text: str) -> Iterator[bytes]:
    for head in (f"GET {text} HTTP/1.1", f"GET / HTTP/{text}", f"GET / HTTP/1.1\r\n{text}",
                 f"GET / HTTP/1.1\r\nHost: {text}/{text}"):  # fmt: skip
        yield f"{head}\r\nHost: a\r\n\r\n".encode()
    yield f"POST {TOKEN} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{text}\r\n".encode()


def whole(answer: Answer) -> bytes:
    """Head and body."""
    return json.dumps(answer.headers).encode() + answer.body


def written(place: Path) -> dict[str, bytes]:
    """All that the node keeps in files now."""
    files = [path for path in [*(place / "var").rglob("*"), place / "access.log"] if path.is_file()]
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


async def rest(node: Node) -> bytes:
    """What is still to be read of standard output."""
    assert node.process.stdout is not None
    return await node.process.stdout.read()


async def records(session: Session) -> bytes:
    """The audit."""
    asked = request("GET", "/operations/audit.list?limit=10000", Authorization=basic("admin", PASSWORD))
    return (await session.ask(asked)).body


async def test_no_secret_is_found_in_anything_that_is_written_down_or_refused(place: Path, behind: Backend) -> None:
    text = configuration(behind.port).replace('log: {access: ""}', LOUD)
    (place / "ostiary.yaml").write_text(text.replace("apifest: {", "apifest: {" + SETTINGS))
    async with serving(place, "--workers", "2") as node:
        await node.client()
        async with Crowd(node.admin, 16) as inside, Crowd(node.gateway, 16) as outside:
            session = Session(node, inside, outside)
            client = await session.register()
            weak = session.keep("weak client secret", "c0ffee" * 4)
            own = await session.register(client_id=secrets.token_hex(20), client_secret=weak)
            for each in (client, own):
                await every_grant(session, each)
            await wrong(session, client)
            for what, secret in session.one_of_each().items():
                asked = [*misplaced(secret), *(in_paths(secret) if what in MADE else ())]
                await session.ask(*asked)
                await session.ask(*asked, public=True)
            found = {f"{name} (live)": text for name, text in written(place).items()}
            found["the audit"] = await records(session)
        node.process.terminate()
        found |= {"standard error": (await node.said()).encode(), "standard output": await rest(node)}
        found |= written(place)
    assert found["access.log"].count(b"\n") > 1000
    found |= {f"the answer {answer.status} to {data!r}": whole(answer) for data, answer in session.refused}
    leaks = [
        (what, where)
        for what, secret in session.secrets.items()
        for form in set(encodings(secret))
        for where, text in found.items()
        if form.encode() in text
    ]
    assert leaks == []
