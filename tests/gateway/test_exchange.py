"""One exchange: who is admitted, what is limited, what plug-ins do, and the exact answers on the way."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic_ns

import msgspec
import pytest
from tests.gateway.door import FOREVER, FakeControl, Line, door, install
from tests.gateway.wire import PATIENCE, Message, Recorder, Wire, connected, ok, recording, until
from tests.undisturbed import undisturbed

from ostiary.core.admission import Admission
from ostiary.core.limit import Limit
from ostiary.core.snapshot import Gateway, Plugin, Policy, RouteLimit, Upstream
from ostiary.gateway.worker import Worker
from ostiary.link.messages import Change

QUIET = Gateway(access_log="")
LATER = (time.time_ns() // 1000) + 3_600_000_000
"""An hour from now, as admissions say it."""
REQUIRED = b'{"error":"access token required"}'
NOT_VALID = b'{"error":"access token not valid"}'
SCOPE = b'{"error":"access token scope not valid"}'
KIND = b'{"error":"access token type not valid"}'
LIMITED = b'{"error":"rate limit reached"}'
AWAY = b'{"error":"temporarily unavailable"}'
TOKENS = {
    "user": Admission("app", "ann", ("basic", "more"), LATER),
    "app": Admission("app", "", ("basic",), LATER),
    "poor": Admission("app", "bob", (), LATER),
    "old": Admission("app", "ann", ("basic",), (time.time_ns() // 1000) - 1),
    "odd": Admission('a"p', "ann\r\nx-scope: all", ("basic",), LATER),
}


def get(path: str, token: str | None = None, more: bytes = b"") -> bytes:
    """A GET of `path`, with a token."""
    bearer = b"Authorization: Bearer %s\r\n" % token.encode() if token is not None else b""
    return b"GET %s HTTP/1.1\r\nHost: x\r\n%s%s\r\n" % (path.encode(), bearer, more)


def post(path: str, body: bytes, more: bytes = b"") -> bytes:
    """A POST of `body`."""
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s" % (path.encode(), len(body), more, body)


class Stage:
    """A door with one recording backend, and a client in front of it."""

    def __init__(self, worker: Worker, control: FakeControl, recorder: Recorder, wire: Wire, port: int) -> None:
        self.worker = worker
        self.control = control
        self.recorder = recorder
        self.wire = wire
        self.port = port
        self.upstream = worker.upstreams["u"]

    async def ask(self, request: bytes, status: int, body: bytes | None = None) -> Message:
        """The answer of `request`, which has this status and body."""
        answer = await self.wire.ask(request)
        assert answer.status == status
        assert body is None or answer.body == body
        return answer


@asynccontextmanager
async def stage(
    *lines: Line, gateway: Gateway = QUIET, tokens: dict[str, Admission] | None = None, reply: object = None
) -> AsyncIterator[Stage]:
    """A door with these routes."""
    answer = reply if isinstance(reply, bytes) else ok()
    async with (
        recording(lambda message: answer) as (recorder, address),
        door(list(lines), [Upstream("u", (address,))], gateway, dict(TOKENS if tokens is None else tokens)) as (
            w,
            c,
            port,
        ),
        connected(port) as wire,
    ):
        yield Stage(w, c, recorder, wire, port)


def route(policy: Policy, match: str = "* /a", to: str = "/b") -> Line:
    """One route with this policy."""
    return Line(match, to, policy=policy)


# -- admission


USER = Policy(token="user", scopes=("basic",))
APP = Policy(token="client-app", scopes=("basic", "other"))
ADMISSIONS: list[tuple[str, Policy, str | None, int, int, bytes, bytes]] = [
    # (name, policy, token, status, status of ApiFest's files, body, what WWW-Authenticate adds)
    ("no token", USER, None, 401, 401, REQUIRED, b""),
    ("an unknown token", USER, "guess", 401, 401, NOT_VALID, b', error="invalid_token"'),
    ("an expired token", USER, "old", 401, 401, NOT_VALID, b', error="invalid_token"'),
    ("a token without the scope", USER, "poor", 403, 401, SCOPE, b', error="insufficient_scope"'),
    ("a token without a user", USER, "app", 403, 401, KIND, b', error="insufficient_scope"'),
    ("a kind that nothing passes", Policy(token="machine"), "user", 403, 401, KIND, b', error="insufficient_scope"'),
]


@pytest.mark.parametrize("compat", [False, True], ids=["standard", "compat"])
@pytest.mark.parametrize("case", ADMISSIONS, ids=[each[0] for each in ADMISSIONS])
@pytest.mark.parametrize("resource", ["", "https://api.example"])
async def test_who_is_not_admitted_is_told_why(
    case: tuple[str, Policy, str | None, int, int, bytes, bytes], compat: bool, resource: str
) -> None:
    _, policy, token, standard, old, body, challenge = case
    gateway = msgspec.structs.replace(QUIET, resource=resource)
    async with stage(route(msgspec.structs.replace(policy, compat=compat)), gateway=gateway) as on:
        answer = await on.ask(get("/a", token), old if compat else standard, body)
        where = b', resource_metadata="https://api.example/.well-known/oauth-protected-resource"' if resource else b""
        assert answer.one(b"www-authenticate") == b'Bearer realm="ostiary"' + challenge + where
        assert answer.one(b"content-type") == b"application/json"
        assert on.recorder.heads == []
        await on.ask(get("/none"), 404)


@pytest.mark.parametrize(
    ("policy", "token", "identity"),
    [
        (Policy(), None, {}),
        (Policy(), "user", {}),
        (USER, "user", {b"x-client-id": b"app", b"x-user-id": b"ann", b"x-scope": b"basic more"}),
        (APP, "user", {b"x-client-id": b"app", b"x-user-id": b"ann", b"x-scope": b"basic more"}),
        (APP, "app", {b"x-client-id": b"app", b"x-scope": b"basic"}),
        (Policy(token="user"), "poor", {b"x-client-id": b"app", b"x-user-id": b"bob", b"x-scope": b""}),
        (USER, "odd", {b"x-client-id": b'a"p', b"x-user-id": b"annx-scope: all", b"x-scope": b"basic"}),
    ],
)
async def test_who_is_admitted_is_named_to_the_backend(
    policy: Policy, token: str | None, identity: dict[bytes, bytes]
) -> None:
    async with stage(route(policy)) as on:
        for _ in range(2):
            await on.ask(get("/a", token, b"X-Client-Id: evil\r\nX-User-Id: evil\r\nX-Scope: evil\r\n"), 200, b"ok")
        for got in on.recorder.requests:
            assert {n: v for n, v in got.fields if n in (b"x-client-id", b"x-user-id", b"x-scope")} == identity
            assert got.all(b"authorization") == []


async def test_the_scheme_is_read_without_letter_case_and_the_token_is_asked_for_once() -> None:
    async with stage(route(USER)) as on:
        for scheme in (b"Bearer", b"bearer", b"BEARER  "):
            await on.ask(b"GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: %s user\r\n\r\n" % scheme, 200)
        assert len(on.control.asked) == 1


async def test_a_refused_token_is_asked_for_once() -> None:
    async with stage(route(USER)) as on:
        for _ in range(3):
            await on.ask(get("/a", "guess"), 401, NOT_VALID)
        assert len(on.control.asked) == 1


async def test_a_route_may_keep_authorization() -> None:
    async with stage(route(Policy(token="user", keep_authorization=True))) as on:
        await on.ask(get("/a", "user"), 200)
        assert on.recorder.requests[0].one(b"authorization") == b"Bearer user"


async def test_many_requests_with_one_new_token_ask_control_once() -> None:
    async with stage(route(USER)) as on:
        on.control.silent = True
        async with connected(on.port) as other:
            await on.wire.say(get("/a", "user"))
            await other.say(get("/a", "user"))
            await until(
                lambda: len(on.worker.asking.waiting) == 1 and len(next(iter(on.worker.asking.waiting.values()))) == 2
            )
            assert len(on.control.asked) == 1
            on.control.silent = False
            on.control.ask(on.control.asked[:1])
            assert (await on.wire.answer()).status == 200
            assert (await other.answer()).status == 200


async def test_who_gives_up_has_control_asked_anew_for_those_who_wait_on() -> None:
    """An answer that was lost (the store was away) must not keep a token that is in steady use out for ever."""
    async with stage(route(USER)) as on:
        on.control.silent = True
        async with connected(on.port) as other:
            await other.say(get("/a", "user"))
            await until(lambda: len(on.control.asked) == 1)
            await on.wire.say(get("/a", "user"))
            await until(lambda: [len(each) for each in on.worker.asking.waiting.values()] == [2])
            on.control.silent = False
            other.reset()
            assert (await on.wire.answer()).status == 200
        assert len(on.control.asked) == 2


async def test_a_change_takes_effect_on_the_next_request_of_an_open_connection() -> None:
    async with stage(route(USER)) as on:
        await on.ask(get("/a", "user"), 200)
        del on.control.tokens["user"]
        await on.ask(get("/a", "user"), 200)
        assert on.worker.change(Change(1, users=["ann"])) == {"admissions": 1, "streams": 0}
        await on.ask(get("/a", "user"), 401, NOT_VALID)


async def test_without_a_lease_nothing_that_was_said_counts_and_the_next_lease_asks_again() -> None:
    """A worker that was stopped finds an answer from before a change that control no longer waits to see applied."""
    async with stage(route(USER)) as on:
        on.control.silent = True
        await on.wire.say(get("/a", "user"))
        await until(lambda: len(on.control.asked) == 1)
        (asked,) = on.control.asked
        on.worker.lease(monotonic_ns() - 1)
        async with connected(on.port) as late:
            await late.say(get("/a", "user"))
            await until(lambda: len(on.worker.asking.waiting[asked]) == 2)
            on.worker.answers({asked: TOKENS["user"]})
            del on.control.tokens["user"]
            on.worker.change(Change(1, users=["ann"]))
            on.control.silent = False
            on.worker.lease(FOREVER)
            assert (await late.answer()).status == 401
        assert (await on.wire.answer()).status == 401
        assert on.control.asked == [asked, asked]


async def test_without_a_lease_control_is_asked_when_it_lends_one_again() -> None:
    async with stage(route(USER)) as on:
        await on.ask(get("/a", "user"), 200)
        on.worker.lease(monotonic_ns() - 1)
        await on.wire.say(get("/a", "user"))
        await until(lambda: len(on.worker.asking.waiting) == 1)
        on.worker.lease(FOREVER)
        assert (await on.wire.answer()).status == 200
        assert len(on.control.asked) == 2


@undisturbed
async def test_a_remembered_token_passes_up_to_the_moment_it_expires() -> None:
    expires = time.time_ns() // 1000 + 300_000
    async with stage(route(USER), tokens={"t": Admission("app", "ann", ("basic",), expires)}) as on:
        passed = refused = 0
        async with asyncio.timeout(PATIENCE):
            while not refused:
                before = time.time_ns() // 1000
                answer = await on.wire.ask(get("/a", "t"))
                after = time.time_ns() // 1000
                refused += answer.status == 401
                passed += answer.status == 200
                assert before <= expires if answer.status == 200 else after >= expires
        assert passed > 0
        assert len(on.control.asked) == 1


async def test_without_lease_and_control_protected_routes_answer_503_and_public_ones_go_on() -> None:
    async with stage(route(USER), route(Policy(), "GET /public")) as on:
        await on.ask(get("/a", "user"), 200)
        on.worker.connected(False)
        await on.ask(get("/a", "user"), 200)
        on.worker.lease(monotonic_ns() - 1)
        answer = await on.ask(get("/a", "user"), 503, AWAY)
        assert answer.one(b"retry-after") == b"1"
        await on.ask(get("/public"), 200)
        await on.ask(get("/a"), 401, REQUIRED)
        on.worker.connected(True)
        on.worker.lease(FOREVER)
        await on.ask(get("/a", "user"), 200)


async def test_a_question_that_was_lost_with_the_link_is_asked_again() -> None:
    async with stage(route(USER)) as on:
        on.worker.connected(False)
        await on.wire.say(get("/a", "user"))
        await until(lambda: len(on.worker.asking.waiting) == 1)
        assert on.control.asked == []
        on.worker.connected(True)
        assert (await on.wire.answer()).status == 200


async def test_a_client_that_leaves_while_control_is_asked_leaves_nothing_behind() -> None:
    async with stage(route(USER)) as on:
        on.control.silent = True
        async with connected(on.port) as other:
            await other.say(get("/a", "user"))
            await until(lambda: len(on.control.asked) == 1)
            other.reset()
            await until(lambda: not on.worker.asking.waiting)
        assert len(on.worker.clients) == 1


# -- limits


def limited(quota: int, by: str = "client", window: int = 3_600_000_000) -> RouteLimit:
    """A route's limit."""
    return msgspec.convert({"name": "l", "limit": [quota, window], "by": by}, RouteLimit)


async def allowed(on: Stage, request: bytes) -> bool:
    """Whether `request` passes the limits; checks the exact refusal if not."""
    answer = await on.wire.ask(request)
    if answer.status == 200:
        return True
    assert (answer.status, answer.body) == (429, LIMITED)
    assert answer.one(b"retry-after").isdigit()
    assert int(answer.one(b"retry-after")) >= 1
    return False


async def test_a_clients_limit_holds_over_all_its_tokens_and_routes() -> None:
    limit = Limit(5, 60_000_000)
    tokens = {name: Admission("app", name, (), LATER, limit) for name in "abc"}
    async with stage(route(Policy(token="user")), route(Policy(token="client-app"), "GET /c"), tokens=tokens) as on:
        passed = [await allowed(on, get(path, token)) for path in ("/a", "/c") for token in "abc"]
        assert passed == [True] * 5 + [False]
        answer = await on.ask(get("/a", "a"), 429, LIMITED)
        assert answer.one(b"retry-after") == b"12"


async def test_the_limit_comes_before_the_scope() -> None:
    tokens = {"a": Admission("app", "ann", (), LATER, Limit(1, 60_000_000))}
    async with stage(route(USER), tokens=tokens) as on:
        await on.ask(get("/a", "a"), 403, SCOPE)
        await on.ask(get("/a", "a"), 429, LIMITED)


async def test_a_routes_limit_is_shared_by_all_routes_that_name_it() -> None:
    policy = Policy(limit=limited(3, "route"))
    async with stage(route(policy), route(policy, "GET /c")) as on:
        assert [await allowed(on, get(path)) for path in ("/a", "/c", "/a", "/c")] == [True, True, True, False]


async def test_a_limit_by_user_counts_users_apart_and_clients_where_there_is_none() -> None:
    tokens = {name: Admission("app", user, (), LATER) for name, user in (("a", "ann"), ("b", "bob"), ("c", ""))}
    async with stage(route(Policy(token="client-app", limit=limited(1, "user"))), tokens=tokens) as on:
        passed = [await allowed(on, get("/a", token)) for token in "aabbcc"]
        assert passed == [True, False, True, False, True, False]


async def test_a_limit_by_address_counts_addresses_that_trusted_proxies_tell() -> None:
    gateway = Gateway(access_log="", trusted_proxies=("127.0.0.0/8",))
    async with stage(route(Policy(limit=limited(1, "address"))), gateway=gateway) as on:
        chains = [b"1.1.1.1", b"1.1.1.1", b"2.2.2.2", b"9.9.9.9, 1.1.1.1", b"3.3.3.3, 127.0.0.9", b"3.3.3.3"]
        passed = [await allowed(on, get("/a", None, b"X-Forwarded-For: %s\r\n" % each)) for each in chains]
        assert passed == [True, False, True, False, True, False]


async def test_what_a_client_says_of_its_address_does_not_count() -> None:
    async with stage(route(Policy(limit=limited(1, "address")))) as on:
        passed = [
            await allowed(on, get("/a", None, b"X-Forwarded-For: %s\r\n" % each)) for each in (b"1.1.1.1", b"2.2.2.2")
        ]
        assert passed == [True, False]


async def test_a_large_limit_is_drawn_in_batches_and_grants_all_of_its_quota() -> None:
    async with stage(route(Policy(limit=limited(640, "route", 3_600_000_000)))) as on:
        passed = [await allowed(on, get("/a")) for _ in range(645)]
        assert passed == [True] * 640 + [False] * 5
        assert on.control.draws <= 80


@undisturbed
async def test_a_refusal_is_remembered_until_the_limit_allows_again() -> None:
    async with stage(route(Policy(limit=limited(1, "route", 300_000)))) as on:
        assert await allowed(on, get("/a"))
        assert not await allowed(on, get("/a"))
        draws = on.control.draws
        assert not await allowed(on, get("/a"))
        assert on.control.draws == draws
        await asyncio.sleep(0.31)
        assert await allowed(on, get("/a"))


async def test_a_flush_gives_up_what_was_drawn() -> None:
    async with stage(route(Policy(limit=limited(1, "route")))) as on:
        assert await allowed(on, get("/a"))
        assert not await allowed(on, get("/a"))
        on.control.tats.clear()
        dropped = on.worker.change(Change(1, everything=True, limits=True, streams=False))
        assert dropped == {"admissions": 0, "limits": 1}
        assert await allowed(on, get("/a"))


async def test_without_control_a_public_routes_limit_holds_by_itself() -> None:
    async with stage(route(Policy(limit=limited(2, "route")))) as on:
        on.worker.connected(False)
        on.worker.lease(monotonic_ns() - 1)
        assert [await allowed(on, get("/a")) for _ in range(4)] == [True, True, False, False]


CLIENT = b'"client";q=5;w=60'
LISTED = {"a": Admission("app", "ann", ("basic",), LATER, Limit(5, 60_000_000))}
SILENT = Gateway(access_log="", ratelimit_headers=False)


async def test_an_answer_tells_what_the_limits_have_left() -> None:
    async with stage(route(USER), tokens=LISTED, reply=ok(head=b'RateLimit: "own";r=1\r\n')) as on:
        for left in (b"4", b"3", b"2"):
            answer = await on.ask(get("/a", "a"), 200)
            assert answer.all(b"ratelimit-policy") == [CLIENT]
            assert answer.all(b"ratelimit") == [b'"own";r=1', b'"client";r=%s;t=12' % left]


async def test_each_limit_of_a_request_is_told_and_only_to_that_request() -> None:
    both = Policy(token="user", limit=limited(9, "user", 1_000_000))
    async with stage(route(both), route(USER, "GET /c"), route(Policy(), "GET /p"), tokens=LISTED) as on:
        answer = await on.ask(get("/a", "a"), 200)
        assert answer.all(b"ratelimit-policy") == [CLIENT, b'"l";q=9;w=1']
        assert answer.all(b"ratelimit") == [b'"client";r=4;t=12', b'"l";r=8;t=1']
        assert (await on.ask(get("/c", "a"), 200)).all(b"ratelimit") == [b'"client";r=3;t=12']
        assert (await on.ask(get("/p"), 200)).all(b"ratelimit") == []


async def test_a_refusal_tells_too_what_it_has_taken() -> None:
    async with stage(route(Policy(token="user", scopes=("other",))), tokens=LISTED) as on:
        assert (await on.ask(get("/a", "a"), 403, SCOPE)).one(b"ratelimit") == b'"client";r=4;t=12'


@pytest.mark.parametrize("gateway", [QUIET, SILENT])
async def test_a_429_always_tells_its_limit_and_agrees_with_retry_after(gateway: Gateway) -> None:
    async with stage(route(Policy(limit=limited(1, "route", 90_000_000))), gateway=gateway) as on:
        answer = await on.ask(get("/a"), 200)
        assert answer.all(b"ratelimit") == ([b'"l";r=0;t=90'] if gateway is QUIET else [])
        for _ in range(2):
            answer = await on.ask(get("/a"), 429, LIMITED)
            assert answer.one(b"ratelimit-policy") == b'"l";q=1;w=90'
            assert answer.one(b"retry-after") == b"90"
            assert answer.one(b"ratelimit") == b'"l";r=0;t=90'


async def test_streams_tell_what_is_left_too() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    async with stage(route(USER), tokens=LISTED, reply=chunked) as on:
        assert (await on.ask(get("/a", "a"), 200, b"a")).one(b"ratelimit") == b'"client";r=4;t=12'


async def test_without_control_a_limit_tells_what_it_has_left_by_itself() -> None:
    async with stage(route(Policy(limit=limited(2, "route", 1_000_000)))) as on:
        on.worker.connected(False)
        on.worker.lease(monotonic_ns() - 1)
        assert (await on.ask(get("/a"), 200)).one(b"ratelimit") == b'"l";r=1;t=1'


async def test_many_that_wait_for_one_limit_get_exactly_its_quota() -> None:
    async with stage(route(Policy(limit=limited(10, "route")))) as on:
        wires = [connected(on.port) for _ in range(20)]
        async with asyncio.timeout(PATIENCE):
            opened = [await each.__aenter__() for each in wires]
            answers = await asyncio.gather(*(wire.ask(get("/a")) for wire in opened))
            for each in wires:
                await each.__aexit__(None, None, None)
        assert sorted(answer.status for answer in answers) == [200] * 10 + [429] * 10


# -- actions and filters

JSON = b"Content-Type: application/json\r\n"


def acting(*actions: Plugin, **more: object) -> Policy:
    """A policy with these actions."""
    return msgspec.structs.replace(Policy(actions=actions), **more)


def filtering(*filters: Plugin, **more: object) -> Policy:
    """A policy with these filters."""
    return msgspec.structs.replace(Policy(filters=filters), **more)


SET = Plugin("set_header", {"name": "X-Set", "value": "v"})
REMOVE = Plugin("remove_header", {"name": "X-Gone"})
SET_FIELD = Plugin("set_json_field", {"field": "senderId", "value": "1232"})
REMOVE_FIELD = Plugin("remove_json_field", {"field": "balance"})


async def test_the_users_id_replaces_its_names_in_the_backend_path() -> None:
    tokens = {"t": Admission("app", "a/b c?é", (), LATER), "n": Admission("app", "", (), LATER)}
    line = route(
        acting(Plugin("replace_user_id"), token="client-app"), "GET /me", "/users/{userId}/{customerId}?u={userId}"
    )
    async with stage(line, tokens=tokens) as on:
        await on.ask(get("/me?q=1", "t"), 200)
        user = b"a%2Fb%20c%3F%C3%A9"
        assert on.recorder.requests[0].start == b"GET /users/%s/%s?q=1&u=%s HTTP/1.1" % (user, user, user)
        await on.ask(get("/me", "n"), 500, b'{"error":"internal error"}')
        assert len(on.recorder.requests) == 1


async def test_headers_are_set_and_removed_on_the_way_to_the_backend() -> None:
    async with stage(route(acting(SET, REMOVE))) as on:
        for request in (get("/a", None, b"X-Set: 1\r\nX-Gone: 1\r\nx-gone: 2\r\nX-Kept: 1\r\n"), post("/a", b"abc")):
            await on.ask(request, 200)
        first, second = on.recorder.requests
        assert (first.all(b"x-set"), first.all(b"x-gone"), first.all(b"x-kept")) == ([b"v"], [], [b"1"])
        assert (second.all(b"x-set"), second.body) == ([b"v"], b"abc")


async def test_a_member_is_set_and_removed_in_a_request_body() -> None:
    async with stage(route(acting(SET_FIELD, REMOVE_FIELD))) as on:
        await on.ask(post("/a", b'{"a":1,"balance":5}', JSON), 200)
        chunks = b'9\r\n{"a":1,"b\r\n4\r\n":2}\r\n0\r\n\r\n'
        await on.ask(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, 200)
        assert [each.body for each in on.recorder.requests] == [
            b'{"a":1,"senderId":"1232"}',
            b'{"a":1,"b":2,"senderId":"1232"}',
        ]
        assert on.recorder.requests[1].all(b"transfer-encoding") == []


@pytest.mark.parametrize("body", [b"", b"[1]", b"nonsense", b'{"a":', b"1", b"\xff", b'{"a":"\xff"}'])
async def test_a_body_that_is_no_json_object_is_the_clients_mistake(body: bytes) -> None:
    async with stage(route(acting(SET_FIELD))) as on:
        await on.ask(post("/a", body), 400, b'{"error":"request body is not a JSON object"}')
        assert on.recorder.heads == []


async def test_a_body_too_large_for_a_plug_in_is_refused_with_413() -> None:
    gateway = Gateway(access_log="", max_buffered_body=10)
    async with stage(route(acting(SET_FIELD)), gateway=gateway) as on:
        await on.ask(post("/a", b'{"a":"12345"}'), 413, b'{"error":"request body too large"}')
        await on.ask(
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n", 413
        )
        assert on.recorder.heads == []


@pytest.mark.parametrize(
    "reply",
    [
        ok(b"body", b"X-Gone: 1\r\nX-Set: 2\r\n"),
        b"HTTP/1.1 200 OK\r\nX-Gone: 1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_filters_of_the_head_let_the_body_stream_on(reply: bytes) -> None:
    async with stage(route(filtering(SET, REMOVE)), reply=reply) as on:
        for _ in range(2):
            answer = await on.ask(get("/a"), 200, b"body")
            assert (answer.all(b"x-set"), answer.all(b"x-gone")) == ([b"v"], [])
        assert (await on.wire.ask(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")).one(b"x-set") == b"v"


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (b'{"a":1,"balance":5}', b'{"a":1}'),
        (b'{"a":1}', b'{"a":1}'),
        (b'{ "a" : 1 }', b'{ "a" : 1 }'),
        (b"[1]", b"[1]"),
        (b"nonsense", b"nonsense"),
        (b'{"balance":"\xff"}', b'{"balance":"\xff"}'),
        (b"", b""),
    ],
)
async def test_a_member_is_removed_from_a_json_object_and_other_bodies_pass(sent: bytes, got: bytes) -> None:
    async with stage(route(filtering(REMOVE_FIELD)), reply=ok(sent)) as on:
        answer = await on.ask(get("/a"), 200, got)
        assert answer.one(b"content-length") == b"%d" % len(got)


async def test_a_member_is_set_in_an_answer() -> None:
    async with stage(route(filtering(SET_FIELD)), reply=ok(b'{"a":1}')) as on:
        await on.ask(get("/a", None, b"Accept-Encoding: gzip\r\n"), 200, b'{"a":1,"senderId":"1232"}')
        assert on.recorder.requests[0].all(b"accept-encoding") == []


async def test_an_answer_too_large_for_a_filter_is_502() -> None:
    gateway = Gateway(access_log="", max_buffered_body=10)
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"6\r\nabcdef\r\n" * 3 + b"0\r\n\r\n"
    for reply in (ok(b"x" * 11), chunks):
        async with stage(route(filtering(REMOVE_FIELD)), gateway=gateway, reply=reply) as on:
            await on.ask(get("/a"), 502, b'{"error":"backend failed"}')
            await on.ask(get("/none"), 404)
            assert on.upstream.backends[0].active == 0


# -- plug-ins of one's own

PLUGINS = """
import asyncio
from ostiary.gateway.plugins import Refuse, action, filter

@action("refuse")
def refuse(_):
    def run(request):
        raise Refuse(418, b'{"error":"teapot"}', [("X-Why", "tea"), ("Retry-After", "7")])
    return run

@action("refuse_later")
def refuse_later(_):
    async def run(request):
        await asyncio.sleep(0)
        raise Refuse(402, b"pay")
    return run

@action("fail")
def fail(_):
    def run(request):
        raise RuntimeError("secret")
    return run

@action("fail_later")
def fail_later(_):
    async def run(request):
        await asyncio.sleep(0)
        raise RuntimeError("secret")
    return run

@action("later")
def later(_):
    async def run(request):
        await asyncio.sleep(0)
        request.headers.set("x-later", str(len(request.body)))
        request.method = "PUT"
        request.path = "/other?x=1"
    return run

@action("never")
def never(_):
    async def run(request):
        await asyncio.Event().wait()
    return run

@action("body", body=True)
def body(_):
    def run(request):
        request.body = request.body[::-1]
    return run

@action("bad_path")
def bad_path(_):
    def run(request):
        request.path = "/a\\r\\nx: y"
    return run

@action("bad_method")
def bad_method(_):
    def run(request):
        request.method = "G\\u00c9T"
    return run

@action("bad_framing")
def bad_framing(_):
    def run(request):
        request.headers.add("Content-Length", "99")
        request.headers.add("Transfer-Encoding", "chunked")
        request.headers.add("Host", "evil")
        request.headers.add("Connection", "upgrade")
    return run

@action("see")
def see(_):
    def run(request):
        admission = request.admission
        seen = [request.method, request.path, request.address, str(request.properties["k"])]
        if admission:
            seen += [admission.client, admission.user, " ".join(admission.scopes), admission.details["d"]]
        request.headers.set("x-seen", "|".join(seen))
    return run

@filter("fail")
def fail_answer(_):
    def run(response):
        raise RuntimeError("secret")
    return run

@filter("fail_whole", body=True)
def fail_whole(_):
    def run(response):
        raise RuntimeError("secret")
    return run

@filter("later")
def later_answer(_):
    async def run(response):
        await asyncio.sleep(0)
        response.body = response.body.upper()
        response.headers.set("x-later", "1")
        response.status = 203
    return run

@filter("refuse")
def refuse_answer(_):
    def run(response):
        raise Refuse(451, b"no")
    return run

@filter("refuse_whole", body=True)
def refuse_whole(_):
    def run(response):
        raise Refuse(451, b"no")
    return run

@filter("status")
def status(_):
    def run(response):
        response.status = 204
    return run

@filter("whole_status", body=True)
def whole_status(_):
    def run(response):
        response.status = 204
    return run

@filter("bad_status")
def bad_status(_):
    def run(response):
        response.status = 999
    return run

@filter("bad_header")
def bad_header(_):
    def run(response):
        response.headers.set("x", "a\\r\\nb: c")
    return run
"""
ACTIONS = [
    "refuse",
    "refuse_later",
    "fail",
    "fail_later",
    "later",
    "never",
    "body",
    "bad_path",
    "bad_method",
    "bad_framing",
    "see",
]
FILTERS = {
    "fail_answer": "fail",
    "fail_whole": "fail_whole",
    "later_answer": "later",
    "refuse_answer": "refuse",
    "refuse_whole": "refuse_whole",
    "status": "status",
    "whole_status": "whole_status",
    "bad_status": "bad_status",
    "bad_header": "bad_header",
}


@pytest.fixture
def plugged(tmp_path: Path) -> Gateway:
    """A gateway that knows the plug-ins above: by the names of their functions."""
    (tmp_path / "mine.py").write_text(PLUGINS)
    names = {name: f"mine.py:{name}" for name in [*ACTIONS, *FILTERS]}
    return Gateway(access_log="", plugins=names, plugin_directory=str(tmp_path))


INTERNAL = b'{"error":"internal error"}'


async def test_an_action_may_refuse(plugged: Gateway) -> None:
    async with stage(route(acting(Plugin("refuse"))), gateway=plugged) as on:
        answer = await on.ask(post("/a", b"abc"), 418, b'{"error":"teapot"}')
        assert (answer.one(b"x-why"), answer.one(b"retry-after")) == (b"tea", b"7")
        assert (await on.wire.ask(get("/a"))).status == 418
        assert on.recorder.heads == []


async def test_an_async_action_may_change_all_or_refuse(plugged: Gateway) -> None:
    lines = (route(acting(SET, Plugin("later"))), route(acting(Plugin("refuse_later")), "GET /r"))
    async with stage(*lines, gateway=plugged) as on:
        await on.ask(post("/a", b"abc"), 200)
        (got,) = on.recorder.requests
        assert (got.start, got.one(b"x-later"), got.one(b"x-set")) == (b"PUT /other?x=1 HTTP/1.1", b"0", b"v")
        assert got.body == b"abc"
        await on.ask(get("/r"), 402, b"pay")


@pytest.mark.parametrize("name", ["fail", "fail_later", "bad_path", "bad_method"])
@pytest.mark.parametrize("compat", [False, True])
async def test_an_action_that_fails_gives_500_and_says_nothing_of_it(
    plugged: Gateway, name: str, compat: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage(route(acting(Plugin(name), compat=compat)), gateway=plugged) as on:
        answer = await on.ask(get("/a"), 500, b"" if compat else INTERNAL)
        assert on.recorder.heads == []
        (record,) = caplog.records
        assert answer.one(b"x-request-id").decode() in record.getMessage()
        await on.ask(get("/none"), 404)


async def test_an_action_that_never_ends_gives_504(plugged: Gateway) -> None:
    async with (
        recording() as (recorder, address),
        door([route(acting(Plugin("never")))], [Upstream("u", (address,), timeout=150_000)], plugged) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(get("/a"))
        assert (answer.status, answer.body) == (504, b'{"error":"backend timed out"}')
        assert recorder.heads == []


async def test_an_action_that_wants_the_body_gets_it_and_may_change_it(plugged: Gateway) -> None:
    async with stage(route(acting(Plugin("body"), SET)), gateway=plugged) as on:
        for body in (b"abc", b"x" * 200_000 + b"y", b""):
            await on.ask(post("/a", body), 200)
        assert [each.body for each in on.recorder.requests] == [b"cba", b"y" + b"x" * 200_000, b""]


async def test_an_action_cannot_touch_the_framing(plugged: Gateway) -> None:
    async with stage(route(acting(Plugin("bad_framing"))), gateway=plugged) as on:
        await on.ask(post("/a", b"abc"), 200)
        (got,) = on.recorder.requests
        assert (got.one(b"content-length"), got.all(b"transfer-encoding"), got.body) == (b"3", [], b"abc")
        assert got.all(b"connection") == []
        assert got.one(b"host") == on.upstream.backends[0].address.encode()


async def test_an_action_sees_who_asks_and_what_for(plugged: Gateway) -> None:
    tokens = {"t": Admission("app", "ann", ("a", "b"), LATER, None, {"d": "e"})}
    public = acting(Plugin("see"), properties={"k": "v"})
    lines = (route(public), route(msgspec.structs.replace(public, token="user"), "GET /mine"))
    async with stage(*lines, gateway=plugged, tokens=tokens) as on:
        await on.ask(get("/a?q"), 200)
        await on.ask(get("/mine", "t"), 200)
        seen = [each.one(b"x-seen") for each in on.recorder.requests]
        assert seen == [b"GET|/b?q|127.0.0.1|v", b"GET|/b|127.0.0.1|v|app|ann|a b|e"]


@pytest.mark.parametrize("name", ["fail_answer", "fail_whole", "bad_status", "bad_header"])
@pytest.mark.parametrize("compat", [False, True])
async def test_a_filter_that_fails_gives_500(plugged: Gateway, name: str, compat: bool) -> None:
    async with stage(route(filtering(Plugin(FILTERS[name]), compat=compat)), gateway=renamed(plugged)) as on:
        await on.ask(get("/a"), 500, b"" if compat else INTERNAL)
        await on.ask(get("/none"), 404)
        assert on.upstream.backends[0].active == 0


def renamed(plugged: Gateway) -> Gateway:
    """The same plug-ins, the filters by their declared names."""
    plugins = {FILTERS.get(name, name): source for name, source in plugged.plugins.items() if name in FILTERS}
    return msgspec.structs.replace(plugged, plugins=plugins)


@pytest.mark.parametrize("name", ["refuse", "refuse_whole"])
async def test_a_filter_may_refuse_too(plugged: Gateway, name: str) -> None:
    async with stage(route(filtering(Plugin(name))), gateway=renamed(plugged)) as on:
        await on.ask(get("/a"), 451, b"no")
        await on.ask(get("/none"), 404)
        assert on.upstream.backends[0].active == 0


async def test_an_async_filter_may_change_all(plugged: Gateway) -> None:
    async with stage(route(filtering(Plugin("later"))), gateway=renamed(plugged), reply=ok(b"body")) as on:
        for _ in range(2):
            answer = await on.ask(get("/a"), 203, b"BODY")
            assert answer.one(b"x-later") == b"1"


@pytest.mark.parametrize("name", ["status", "whole_status"])
async def test_a_filter_may_turn_an_answer_into_one_without_a_body(plugged: Gateway, name: str) -> None:
    async with stage(route(filtering(Plugin(name))), gateway=renamed(plugged)) as on:
        for _ in range(2):
            answer = await on.wire.ask(get("/a"))
            assert (answer.status, answer.all(b"content-length"), answer.all(b"transfer-encoding")) == (204, [], [])


# -- error bodies


async def test_an_error_body_replaces_what_the_gateway_says() -> None:
    gateway = Gateway(access_log="", errors={404: '{"gone":1}', 401: '{"who":1}', 400: '{"what":1}'})
    async with stage(route(USER), gateway=gateway) as on:
        await on.ask(get("/none"), 404, b'{"gone":1}')
        for token in (None, "guess"):
            answer = await on.ask(get("/a", token), 401, b'{"who":1}')
            assert answer.all(b"www-authenticate") != []
        await on.ask(b"GET /a HTTP/1.1\r\n\r\n", 400, b'{"what":1}')


async def test_a_routes_error_body_replaces_the_backends() -> None:
    described = b'ETag: "1"\r\nContent-Encoding: gzip\r\nContent-Type: text/html\r\n'
    reply = b"HTTP/1.1 404 Nope\r\n" + described + b"X-A: 1\r\nContent-Length: 4\r\n\r\nbody"
    async with stage(route(Policy(errors={404: '{"none":1}'})), reply=reply) as on:
        for _ in range(2):
            answer = await on.ask(get("/a"), 404, b'{"none":1}')
            assert answer.one(b"content-type") == b"application/json"
            assert (answer.one(b"content-length"), answer.one(b"x-a")) == (b"10", b"1")
            assert (answer.all(b"etag"), answer.all(b"content-encoding")) == ([], [])
        answer = await on.wire.ask(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (answer.status, answer.one(b"content-type")) == (404, b"text/html")


async def test_other_statuses_of_a_route_with_error_bodies_stream_on() -> None:
    async with stage(route(Policy(errors={404: "x"})), reply=ok(b"body")) as on:
        await on.ask(get("/a"), 200, b"body")


async def test_an_error_body_does_not_touch_304() -> None:
    async with stage(route(Policy(errors={304: "x"})), reply=b"HTTP/1.1 304 X\r\n\r\n") as on:
        for _ in range(2):
            answer = await on.wire.ask(get("/a"))
            assert (answer.status, answer.all(b"content-type")) == (304, [])


async def test_error_bodies_come_before_filters() -> None:
    policy = filtering(SET_FIELD, errors={404: '{"none":1}'})
    async with stage(route(policy), reply=b"HTTP/1.1 404 N\r\nContent-Length: 1\r\n\r\nx") as on:
        await on.ask(get("/a"), 404, b'{"none":1,"senderId":"1232"}')


# -- the query, the request id, the trace, trusted proxies


async def test_the_routes_own_query_comes_behind_the_clients() -> None:
    async with stage(route(Policy(), "GET /a", "/b?own=1")) as on:
        for query in ("", "?", "?a=1&a=2", "?own=2"):
            await on.ask(get("/a" + query), 200)
        assert [each.start for each in on.recorder.requests] == [
            b"GET /b?own=1 HTTP/1.1",
            b"GET /b?own=1 HTTP/1.1",
            b"GET /b?a=1&a=2&own=1 HTTP/1.1",
            b"GET /b?own=2&own=1 HTTP/1.1",
        ]


async def test_each_exchange_has_a_request_id_of_its_own_that_both_ends_see() -> None:
    async with stage(route(Policy())) as on:
        ids = [(await on.ask(get("/a", None, b"X-Request-Id: mine\r\n"), 200)).one(b"x-request-id") for _ in range(3)]
        assert len(set(ids)) == 3
        assert [each.one(b"x-request-id") for each in on.recorder.requests] == ids


async def test_a_trusted_proxy_is_believed() -> None:
    gateway = Gateway(access_log="", trusted_proxies=("127.0.0.1/32", "10.0.0.0/8"))
    said = (
        b"X-Forwarded-For: 1.2.3.4, 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\n"
        b"Forwarded: for=1.2.3.4\r\nVia: 1.1 front\r\nX-Request-Id: theirs-1\r\nTraceparent: 00-1-2-01\r\n"
        b"X-User-Id: 1\r\n"
    )
    async with stage(route(Policy()), gateway=gateway) as on:
        answer = await on.ask(get("/a", None, said), 200)
        assert answer.one(b"x-request-id") == b"theirs-1"
        (got,) = on.recorder.requests
        assert got.one(b"x-forwarded-for") == b"1.2.3.4, 10.1.1.1, 127.0.0.1"
        assert got.one(b"x-forwarded-proto") == b"https"
        assert got.one(b"x-forwarded-host") == b"public"
        assert got.one(b"forwarded") == b'for=1.2.3.4, for=127.0.0.1;proto=http;host="x"'
        assert got.one(b"via") == b"1.1 front, 1.1 ostiary"
        assert got.one(b"x-request-id") == b"theirs-1"
        assert got.one(b"traceparent") == b"00-1-2-01"
        assert got.all(b"x-user-id") == []


async def test_a_proxy_trusted_no_more_is_believed_no_more_on_its_open_connection() -> None:
    gateway = Gateway(access_log="", trusted_proxies=("127.0.0.1/32",))
    async with stage(route(Policy()), gateway=gateway) as on:
        request = get("/a", None, b"X-Request-Id: theirs-1\r\n")
        assert (await on.ask(request, 200)).one(b"x-request-id") == b"theirs-1"
        install(on.worker, 2, [route(Policy())], [on.upstream.definition], QUIET)
        assert (await on.ask(request, 200)).one(b"x-request-id") != b"theirs-1"


# -- accounting


async def test_an_access_log_that_cannot_be_opened_stops_nobody(tmp_path: Path) -> None:
    async with stage(route(USER), gateway=Gateway(access_log=str(tmp_path))) as on:
        await on.ask(get("/a", "user"), 200)


async def test_each_exchange_is_one_line_of_the_access_log_and_one_count(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.log"
    async with stage(route(USER), gateway=Gateway(access_log=str(path))) as on:
        first = await on.ask(get("/a?secret=1", "user"), 200)
        await on.ask(get("/a", "guess"), 401)
        await on.ask(get("/none"), 404)
        await on.ask(b"nonsense\r\n\r\n", 400)
        report = on.worker.report(1)
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [(each["status"], each["path"], each["route"]) for each in lines] == [
        (200, "/a", "* /a"),
        (401, "/a", "* /a"),
        (404, "/none", ""),
        (400, "", ""),
    ]
    assert (lines[0]["client"], lines[0]["user"], lines[0]["method"], lines[0]["bytes"]) == ("app", "ann", "GET", 2)
    assert lines[0]["request_id"] == first.one(b"x-request-id").decode()
    assert lines[0]["address"] == "127.0.0.1"
    assert [each.get("why") for each in lines] == [None, "token not valid", "no route", "malformed request line"]
    assert b"secret" not in path.read_bytes()
    assert {each.route: each.statuses for each in report.routes} == {"* /a": {200: 1, 401: 1}, "": {404: 1, 400: 1}}
    assert [sum(each.latencies) for each in report.routes] == [2, 2]
    assert report.counters == {"admission.misses": 2, "upstream.u.connects": 1, "refused.400": 1}
    assert report.gauges["connections"] == 1


async def test_counts_begin_anew_with_each_report() -> None:
    async with stage(route(Policy())) as on:
        on.worker.report(1)
        await on.ask(get("/a"), 200)
        assert on.worker.report(2).counters == {"upstream.u.connects": 1}
        assert on.worker.report(3).counters == {}
        assert on.worker.report(3).routes == []
