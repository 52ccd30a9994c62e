"""Reload: build new, swap once, keep the old on failure; and what the operations show of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.control.house import ADMIN, House

from ostiary.control.call import Call
from ostiary.control.config import NoParameters
from ostiary.control.configuration import Built
from ostiary.control.reload import NotReloaded, Reloaded, Reloader, Setting
from ostiary.control.seal import Seal, key_in
from ostiary.control.sources import Sources
from ostiary.core.configuration.own import PUBLIC
from ostiary.core.permission import Principal
from ostiary.core.refusal import Forbidden, Invalid, NotFound, Unavailable
from ostiary.core.snapshot import Snapshot
from ostiary.gateway.bundled import BUNDLED
from ostiary.gateway.plugins import Plugins
from ostiary.link.messages import Change, Routes, decode_to_worker
from ostiary.link.receipt import Receipt
from ostiary.store.ports import Record, Revision, Revisions

FIRST = """\
upstreams: {u: {servers: ["127.0.0.1:5000"]}}
routes:
- {match: GET /a, upstream: u}
- {match: "GET /b/{n:[0-9]+}", to: "/x/{n}?y=1", upstream: u, require: {scope: s}, actions: [replace_user_id]}
errors: {404: {error: none}}
"""
SECOND = FIRST + "log: {level: DEBUG}\nadmin: {listen: '127.0.0.1:1'}\nlimits: {default: {requests: 5}}\n"
OWN = [f"{method} {path}" for method, path in PUBLIC]
BROKEN = FIRST.replace("GET /a", "GET a") + "nonsense: 1\n"


class Workers:
    """Two workers. `gate`: they serve what they are given only once it is set. `refuse`: they cannot build it."""

    def __init__(self) -> None:
        self.installed: list[tuple[Snapshot, list[Routes]]] = []
        self.told: list[Change] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuse = ""

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> Receipt:
        self.asked.set()
        await self.gate.wait()
        if self.refuse:
            raise Invalid("snapshot.refused", self.refuse)
        messages = [decode_to_worker(each[4:]) for each in routes]
        self.installed.append((snapshot, [each for each in messages if isinstance(each, Routes)]))
        return Receipt(snapshot.revision, 2, 2, 1500)

    async def apply(self, change: Change) -> Receipt:
        self.told.append(change)
        return Receipt(change.seq, 2, 2, 1500)

    @property
    def serve(self) -> list[str]:
        """Names of the routes that serve."""
        exact = [key.decode() for message in self.installed[-1][1] for key in message.exact]
        return exact + [each.method for message in self.installed[-1][1] for each in message.patterns]


class Away:
    """Revisions of a store that cannot be reached."""

    def __init__(self, revisions: Revisions) -> None:
        self._revisions = revisions
        self.away = False

    async def keep(self, revision: Revision, sealed: bytes, record: Record | None = None) -> int:
        if self.away:
            raise Unavailable("store.unavailable", "The store cannot be reached")
        return await self._revisions.keep(revision, sealed, record)

    async def page(self, limit: int, before: int = 0) -> list[Revision]:
        return await self._revisions.page(limit, before)

    async def get(self, number: int) -> tuple[Revision, bytes] | None:
        return await self._revisions.get(number)

    async def newest(self) -> tuple[Revision, bytes] | None:
        return await self._revisions.newest()


class Desk:
    """A reloader in a house, and what it works on."""

    def __init__(self, house: House, root: Path) -> None:
        self.house = house
        self.file = root / "ostiary.yaml"
        self.workers = Workers()
        self.revisions = Away(house.store.revisions)
        self.applied: list[Built] = []
        self.reloader = self.another()
        house.control.configuration = self.reloader

    def another(self, key: bytes = bytes(32)) -> Reloader:
        """A reloader such as the process after this one has."""
        return Reloader(
            Setting(
                path=self.file,
                environ={},
                catalogue=lambda: Plugins(BUNDLED),
                public="/run/public.sock",
                revisions=self.revisions,
                workers=self.workers,
                seal=Seal(key, lambda count: bytes(count)),
                clock=self.house.clock,
                applied=self.applied.append,
            )
        )

    async def start(self, text: str = FIRST) -> None:
        """Serve this configuration."""
        self.file.write_text(text)
        await self.reloader.start()

    async def reload(self, text: str, call: Call | None = None) -> Reloaded:
        """Reload with this text in the file."""
        self.file.write_text(text)
        return await self.reloader.reload(call or Call(ADMIN, "test"))

    async def run(self, name: str, **params: Any) -> Any:
        """Run an operation as the owner."""
        declared = self.house.registry.get(name)
        return await self.house.run(name, msgspec.convert(params, declared.params))


@pytest.fixture
async def desk(house: House, tmp_path: Path) -> AsyncIterator[Desk]:
    """A reloader that has not started."""
    each = Desk(house, tmp_path)
    yield each
    await each.reloader.close()


async def test_the_start_serves_the_files_and_keeps_them(desk: Desk) -> None:
    await desk.start()
    assert desk.workers.serve == ["GET /a", *OWN, "GET"]
    (kept,) = await desk.revisions.page(10)
    assert (kept.number, kept.origin, kept.author, kept.routes) == (1, "start", "node", 2)
    assert [each.compiled.snapshot.revision for each in desk.applied] == [1]


async def test_a_start_with_the_same_files_is_the_same_revision(desk: Desk) -> None:
    await desk.start()
    other = desk.another()
    await other.start()
    assert other.revision == 1
    assert len(await desk.revisions.page(10)) == 1
    await other.close()


async def test_a_start_with_mistakes_tells_all_of_them(desk: Desk) -> None:
    with pytest.raises(NotReloaded) as caught:
        await desk.start(BROKEN)
    assert [each.line for each in caught.value.mistakes] == [3, 6]
    assert caught.value.message == "Configuration not reloaded: 2 mistakes, nothing serves"
    assert desk.workers.installed == []


async def test_a_reload_serves_and_keeps_the_new_one_and_says_what_changed(desk: Desk) -> None:
    await desk.start()
    call = Call(ADMIN, "test")
    done = await desk.reload(SECOND, call)
    assert done.revision == 2
    assert [(each.key, each.old, each.new) for each in done.changed] == [("LOG_LEVEL", "INFO", "DEBUG")]
    assert done.restart_needed == ["ADMIN_LISTEN"]
    assert done.config["ADMIN_LISTEN"] == "127.0.0.1:8081"
    assert call.trail.receipt == Receipt(2, 2, 2, 1500)
    assert [each.origin for each in await desk.revisions.page(10)] == ["reload", "start"]
    assert desk.applied[-1].compiled.rules.default_limit is not None


@pytest.mark.parametrize(
    ("bodies", "changed"),
    [("{503: later, 404: gone}", []), ("{404: gone}", ["GET /a"]), ("{404: gone, 503: soon}", ["GET /a"])],
)
async def test_routes_with_error_bodies_change_with_them(desk: Desk, bodies: str, changed: list[str]) -> None:
    def written(errors: str) -> str:
        return FIRST.replace("{match: GET /a, upstream: u}", f"{{match: GET /a, upstream: u, errors: {errors}}}")

    await desk.start(written("{404: gone, 503: later}"))
    done = await desk.reload(written(bodies).replace("GET /b/", "GET /c/"))
    assert (done.routes.added, done.routes.changed) == (["GET /c/{n:[0-9]+}"], changed)


async def test_workers_forget_the_default_limit_of_before(desk: Desk) -> None:
    await desk.start()
    await desk.reload(FIRST + "log: {level: DEBUG}\n")
    assert desk.workers.told == []
    await desk.reload(SECOND)
    assert desk.workers.told == [Change(0, everything=True, streams=False)]


async def test_nothing_changed_is_the_same_revision_and_certificates_are_read_anew(desk: Desk) -> None:
    await desk.start()
    done = await desk.reload("# a comment\n" + FIRST)
    assert (done.revision, done.changed, done.restart_needed, done.routes.added) == (1, [], [], [])
    assert [snapshot.revision for snapshot, _ in desk.workers.installed] == [1, 1]
    assert len(await desk.revisions.page(10)) == 1


async def test_a_mistake_leaves_the_old_one_serving(desk: Desk) -> None:
    await desk.start()
    with pytest.raises(NotReloaded) as caught:
        await desk.reload(BROKEN)
    assert caught.value.message == "Configuration not reloaded: 2 mistakes, revision 1 keeps serving"
    assert caught.value.revision == 1
    assert len(desk.workers.installed) == 1
    assert len(await desk.revisions.page(10)) == 1


async def test_what_a_worker_cannot_build_leaves_the_old_one_serving(desk: Desk) -> None:
    await desk.start()
    desk.workers.refuse = "no memory"
    with pytest.raises(NotReloaded) as caught:
        await desk.reload(SECOND)
    assert [str(each) for each in caught.value.mistakes] == ["ostiary.yaml:0: no memory"]
    assert desk.reloader.revision == 1


async def test_what_cannot_be_kept_does_not_serve(desk: Desk) -> None:
    await desk.start()
    desk.revisions.away = True
    with pytest.raises(Unavailable):
        await desk.reload(SECOND)
    assert [snapshot.revision for snapshot, _ in desk.workers.installed] == [1, 2, 1]
    assert desk.reloader.revision == 1


async def test_reloads_that_come_while_one_runs_share_the_next(desk: Desk) -> None:
    await desk.start()
    desk.workers.gate.clear()
    desk.workers.asked.clear()
    first = asyncio.ensure_future(desk.reload(SECOND))
    await desk.workers.asked.wait()
    others = [asyncio.ensure_future(desk.reload(SECOND + "session: {ttl: 1h}\n")) for _ in range(5)]
    await asyncio.sleep(0)
    desk.workers.gate.set()
    assert (await first).revision == 2
    assert [(await each).revision for each in others] == [3] * 5
    assert [snapshot.revision for snapshot, _ in desk.workers.installed] == [1, 2, 3]


async def test_a_reload_goes_on_when_who_asked_has_gone(desk: Desk) -> None:
    await desk.start()
    desk.workers.gate.clear()
    desk.workers.asked.clear()
    asked = asyncio.ensure_future(desk.reload(SECOND))
    await desk.workers.asked.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    desk.workers.gate.set()
    assert (await desk.reloader.reload(Call(ADMIN, "test"))).revision == 2
    assert [snapshot.revision for snapshot, _ in desk.workers.installed] == [1, 2, 2]


async def test_the_successor_of_a_process_serves_what_the_store_has_not_the_files(desk: Desk) -> None:
    await desk.start()
    desk.file.write_text(BROKEN)
    successor = desk.another()
    assert await successor.resume() == Receipt(1, 2, 2, 1500)
    assert [each.name for each in successor.serving.compiled.configured] == ["GET /a", "GET /b/{n:[0-9]+}"]
    await successor.close()


async def test_a_successor_with_another_key_has_nothing_to_resume(desk: Desk) -> None:
    await desk.start()
    stranger = desk.another(key=b"k" * 32)
    assert await stranger.resume() is None
    await stranger.close()


async def test_before_the_start_there_is_nothing_to_show_or_reload(desk: Desk) -> None:
    for name in ("config.current", "config.reload", "routes.list", "mappings.list", "errors.list"):
        with pytest.raises(Unavailable):
            await desk.run(name)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged."""
    return [each.getMessage() for each in caplog.records]


async def test_the_log_tells_of_a_reload_whatever_the_level(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.start()
    logging.getLogger("ostiary").setLevel("ERROR")
    await desk.reload(SECOND)
    with pytest.raises(NotReloaded):
        await desk.reload(BROKEN, Call(Principal("node", "signal"), "signal"))
    logging.getLogger("ostiary").setLevel("NOTSET")
    assert lines(caplog) == [
        "Reload requested by admin: reloading configuration...",
        "Log level updated to DEBUG",
        "Configuration reload complete",
        "SIGHUP received: reloading configuration...",
        "ostiary.yaml:3: routes[0].match: expected methods, one blank and a path: "
        "`GET /v1/countries` or `GET,POST /v1/{name}`",
        "ostiary.yaml:6: nonsense: unknown setting; there are admin, bootstrap, cikit, cluster, deis, dialects, "
        "droplets, errors, gateway, limits, log, login, mappings, oauth, passwords, pid_file, plugins, registration, "
        "routes, session, state_dir, store, tokens, totp, upstreams",
        "Configuration reload failed: 2 mistakes, revision 2 keeps serving",
    ]


async def test_the_log_tells_of_each_changed_key(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ostiary")
    await desk.start()
    await desk.reload(SECOND)
    assert lines(caplog)[1:3] == [
        "Config changed: LOG_LEVEL = INFO -> DEBUG",
        "Log level updated to DEBUG",
    ]


async def test_an_operator_reloads_and_it_stands_in_the_audit(desk: Desk) -> None:
    await desk.start()
    done = await desk.run("config.reload")
    assert done.revision == 1
    (record, *_) = await desk.house.records(operation="config.reload")
    assert (record.name, record.outcome, record.surface) == ("admin", "done", "test")


async def test_a_reload_needs_its_permission(desk: Desk) -> None:
    await desk.start()
    with pytest.raises(Forbidden):
        await desk.house.run("config.reload", NoParameters(), Principal("user", "v", frozenset({"config:read"})))


async def test_current_shows_what_serves(desk: Desk) -> None:
    await desk.start()
    shown = await desk.run("config.current")
    assert shown.revision == 1
    assert shown.collections == {"routes": 2, "upstreams": 1, "mappings": 0, "errors": 1, "limits": 0}
    assert shown.config["LOG_LEVEL"] == "INFO"


async def test_validate_finds_what_a_reload_would_and_changes_nothing(desk: Desk) -> None:
    await desk.start()
    assert (await desk.run("config.validate")).routes == 2
    desk.file.write_text(BROKEN)
    found = await desk.run("config.validate")
    assert (found.valid, [each.line for each in found.mistakes]) == (False, [3, 6])
    assert len(desk.workers.installed) == 1


async def test_a_rollback_serves_an_earlier_revision_as_a_new_one(desk: Desk) -> None:
    await desk.start()
    await desk.reload(SECOND)
    done = await desk.run("revisions.rollback", revision=1)
    assert (done.revision, [each.key for each in done.changed]) == (3, ["LOG_LEVEL"])
    assert [each.origin for each in await desk.run("revisions.list")] == ["rollback 1", "reload", "start"]
    with pytest.raises(NotFound):
        await desk.run("revisions.rollback", revision=9)


async def test_revisions_are_shown_and_compared_without_secrets(desk: Desk) -> None:
    secret = FIRST + "bootstrap: {owner: {name: me, password: hunter2hunter2}}\n"
    await desk.start(secret)
    await desk.reload(secret.replace("hunter2hunter2", "correct horse") + "log: {level: ERROR}\n")
    shown = await desk.run("revisions.show", revision=1)
    assert (shown.serving, shown.upstreams) == (False, {"u": ["127.0.0.1:5000"]})
    assert shown.files == {"ostiary.yaml": len(secret)}
    diff = await desk.run("revisions.diff", revision=1)
    assert (diff.other, [each.key for each in diff.changed], diff.files) == (
        2, ["BOOTSTRAP_OWNER_PASSWORD", "LOG_LEVEL"], ["ostiary.yaml"],
    )  # fmt: skip
    assert "hunter2" not in f"{shown}{diff}"
    with pytest.raises(NotFound):
        await desk.run("revisions.show", revision=9)


def written(root: Path) -> bytes:
    """All that the store has on the disk."""
    return b"".join(path.read_bytes() for path in root.glob("ostiary.db*"))


async def test_the_database_holds_no_secret_of_a_configuration(desk: Desk, tmp_path: Path) -> None:
    await desk.start(FIRST + "bootstrap: {owner: {name: me, password: hunter2hunter2}}\n")
    kept = written(tmp_path)
    assert b"hunter2" not in kept
    assert b"127.0.0.1:5000" not in kept


async def test_routes_are_listed_with_what_they_require(desk: Desk) -> None:
    await desk.start()
    found = await desk.run("routes.list")
    assert [each.name for each in found] == ["GET /a", "GET /b/{n:[0-9]+}", *OWN]
    assert (found[1].to, found[1].upstream, found[1].token, found[1].scopes, found[1].actions) == (
        "/x/{n}?y=1", "u", "client-app", ("s",), ["replace_user_id"],
    )  # fmt: skip
    assert [each.name for each in await desk.run("routes.list", text="/b")] == ["GET /b/{n:[0-9]+}"]
    assert [each.name for each in await desk.run("routes.list", limit=1, after="GET /a")] == ["GET /b/{n:[0-9]+}"]


@pytest.mark.parametrize(
    ("method", "path", "status", "route", "backend"),
    [
        ("GET", "/a", 0, "GET /a", "/a"),
        ("HEAD", "/a", 0, "GET /a", "/a"),
        ("GET", "/./b//7?z=2", 0, "GET /b/{n:[0-9]+}", "/x/7?z=2&y=1"),
        ("GET", "/b/x", 404, None, ""),
        ("POST", "/a", 405, None, ""),
        ("GET", "/a%2fb", 400, None, ""),
    ],
)
async def test_explain_says_which_way_a_request_goes(
    desk: Desk, method: str, path: str, status: int, route: str | None, backend: str
) -> None:
    await desk.start()
    found = await desk.run("routes.explain", method=method, path=path)
    assert (found.status, found.route and found.route.name, found.backend) == (status, route, backend)


async def test_explain_refuses_what_is_no_path(desk: Desk) -> None:
    await desk.start()
    with pytest.raises(Invalid):
        await desk.run("routes.explain", path="b")


async def test_errors_are_listed_by_status(desk: Desk) -> None:
    await desk.start(FIRST.replace("{404:", "{503: later, 404:"))
    assert [*(await desk.run("errors.list")).items()] == [("404", '{"error":"none"}'), ("503", "later")]
    assert await desk.run("mappings.list") == {}


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    assert key_in(tmp_path / "state", lambda count: b"k" * count) == b"k" * 32
    assert key_in(tmp_path / "state", lambda count: b"x" * count) == b"k" * 32
    assert (tmp_path / "state" / "revisions.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_none_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "revisions.key"
    file.write_bytes(b"short")
    with pytest.raises(Invalid, match=f"{file} does not hold a key of 32 bytes"):
        key_in(tmp_path, bytes)
    file.unlink()
    file.mkdir()
    with pytest.raises(Invalid, match=f"The key {file} cannot be had: Is a directory"):
        key_in(tmp_path, bytes)


def test_a_seal_opens_what_it_closed_and_nothing_else() -> None:
    seal = Seal(bytes(32), lambda count: b"n" * count)
    sources = Sources("a.yaml", {"a.yaml": b"x" * 1000}, {"m": ["a"]}, {"s": b"secret"})
    closed = seal.close(sources)
    assert seal.open(closed) == sources
    for wrong in (b"", closed[:-1], closed[:5] + b"x" + closed[6:], b"x" * 100):
        with pytest.raises(Invalid):
            seal.open(wrong)


def test_the_digest_of_sources_needs_the_key() -> None:
    one, other = Sources("a.yaml", {"a.yaml": b"x"}), Sources("a.yaml", {"a.yaml": b"y"})
    seals = [Seal(key * 32, bytes) for key in (b"a", b"b")]
    assert len({seal.digest(each) for seal in seals for each in (one, other)}) == 4


async def test_many_routes_travel_in_small_messages(desk: Desk) -> None:
    routes = "".join(f"- {{match: GET /r{n}, upstream: u}}\n" for n in range(1500))
    patterns = "".join(f"- {{match: 'GET /p{n}/{{x}}', upstream: u}}\n" for n in range(300))
    await desk.start('upstreams: {u: {servers: ["h:1"]}}\nroutes:\n' + routes + patterns)
    messages = desk.workers.installed[-1][1]
    assert sum(len(each.exact) + len(each.patterns) for each in messages) == 1800 + len(OWN)
    assert max(len(each.exact) + 5 * len(each.patterns) for each in messages) <= 505
