"""The director: what steering a user costs a request, a million users, a flush of a tenth of them, and who is there.

Costs are measured beside consistent hashing in nginx and HAProxy, which remember nobody: their user moves when a
backend joins. Ostiary's route without a director is in the same turns: the difference is the cost of steering.
"""

import asyncio
import http.client
import json
import random
import resource
import sqlite3
import time
import timeit
from collections import Counter
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from bench.contest import COLUMNS, CONNECTIONS, Scores, contest, table
from bench.fill import fill, token
from bench.generator import Job
from bench.inside import steering_us
from bench.load import PATH
from bench.measure import own_memory, settled
from bench.ostiary import Ostiary, Settings
from bench.peers import HAPROXY_HASH, NGINX_HASH, Running
from bench.process import Failed
from bench.report import Figure, Outcome
from bench.stage import Stage, job, say
from ostiary.core.director import Board, DirectorRules, user_hash
from ostiary.core.snapshot import Director
from ostiary.core.snapshot import Upstream as Definition
from ostiary.gateway.upstream import Upstream
from ostiary.link.messages import Place, Question
from ostiary.store.places import Wanted
from ostiary.store.store import open_store

HOSTS = [f"127.0.0.{number}" for number in range(11, 21)]
USER = "samik"
MIB = 1 << 20
TURN = 5_000
LOOKS = 9
KNOWN, LOOKED_UP = 100_000, 10_000
"""Users that a worker knows, and how many of them are looked up."""
WITHOUT = "Ostiary, round robin"
EVEN = "/even"
_WEIGHT = """
SELECT SUM(pgsize) FROM dbstat
WHERE aggregate = 1 AND name IN (SELECT name FROM sqlite_master WHERE tbl_name = 'assignments')
"""


class Found(NamedTuple):
    """What was measured beside the turns."""

    bytes: float
    """Of a million assignments: their table with its indexes, and what control grows by."""
    flush: float
    """Milliseconds."""
    who: float
    """Milliseconds."""
    sessions: int
    moved: int


def settings(backend: int) -> Settings:
    """One route with a director and one without, to the same backend; and a director of many hosts."""
    users = {"match": "GET /who", "to": "/countries", "upstream": "backend", "require": {"token": "user"}}
    return {
        "upstreams": {
            "backend": {"servers": [f"127.0.0.1:{backend}"]},
            "steered": {"servers": [f"127.0.0.1:{backend}"], "balance": "director", "user_from": "header X-User"},
            "many": {"servers": [f"{host}:80" for host in HOSTS], "balance": "director"},
        },
        "routes": [
            {"match": f"GET {PATH}", "to": "/countries", "upstream": "steered"},
            {"match": f"GET {EVEN}", "to": "/countries", "upstream": "backend"},
            users,
        ],
        "dialects": {"apifest": {"trusted_networks": ["127.0.0.0/8"]}, "doveadm": {"director": "many"}},
    }


def work(program: Running, seconds: float) -> Job:
    """The same requests of one user, for the route without a director under another path."""
    asked = job(program, seconds, CONNECTIONS)
    return msgspec.structs.replace(asked, paths=[EVEN]) if program.name == WITHOUT else asked


def measure(stage: Stage) -> Outcome:
    """The turns, then the many."""
    named = (f"X-User: {USER}", "Authorization: Bearer tok123")
    with (
        stage.backend("canned") as backend,
        stage.ostiary("ostiary", settings(backend)) as ostiary,
        stage.peers([NGINX_HASH, HAPROXY_HASH], backend) as (peers, absent),
    ):
        ours = ostiary.running()._replace(headers=named)
        programs = [ours, ours._replace(name=WITHOUT), *(peer._replace(headers=named) for peer in peers)]
        scores = contest(stage, programs, stage.scale.long_rounds, work)
    with stage.backend("canned") as backend, stage.ostiary("many", settings(backend)) as ostiary:
        found = many(stage, ostiary)
    return outcome(stage, scores, absent, found)


def many(stage: Stage, ostiary: Ostiary) -> Found:
    """Fill the store, weigh, flush a host, and list the sessions of users that are there."""
    client, _ = ostiary.application()
    before = settled(lambda: own_memory(ostiary.control()))
    ostiary.stop()
    count, sessions = stage.scale.assignments, stage.scale.sessions
    assign(ostiary.store, count)
    fill(ostiary.store, client, sessions, users=True)
    ostiary.start()
    operation(ostiary, "director.status", {"upstream": "many"})
    grown = max(0, settled(lambda: own_memory(ostiary.control())) - before)
    weight = (weigh(ostiary.store) + grown) / count * 1e6
    moved, flush = flushed(ostiary)
    return Found(weight, flush, listed(ostiary, sessions), sessions, moved)


def assign(store: Path, count: int) -> None:
    """Give `count` users a host each, by the statement that does it for workers. No node may use the file meanwhile."""
    asyncio.run(_assign(store, count))


async def _assign(file: Path, count: int) -> None:
    store = await open_store(f"sqlite:///{file}")
    rules = DirectorRules("many", dict.fromkeys(HOSTS, 80))
    began, now = time.monotonic(), time.time_ns() // 1000
    for start in range(0, count, TURN):
        names = [f"user{number}" for number in range(start, min(start + TURN, count))]
        wanted = {user_hash(name, "%Lu"): Wanted("", user_hash(name, "%Lu"), (name,)) for name in names}
        await store.directors.assign("many", list(wanted.values()), lambda kept: Board(rules, kept), now)
    await store.close()
    say(f"  {count:,} assignments in {time.monotonic() - began:.0f} s")


def weigh(store: Path) -> int:
    """Bytes of the assignments and their indexes."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        [(table,)] = connection.execute(_WEIGHT).fetchall()
    return int(table)


def flushed(ostiary: Ostiary) -> tuple[int, float]:
    """How many users a host had that goes down and is flushed, and the milliseconds that the flush took."""
    status = operation(ostiary, "director.status", {"upstream": "many"})
    users = next(host["users"] for host in status["hosts"] if host["host"] == HOSTS[0])
    operation(ostiary, "director.down", {"upstream": "many", "host": HOSTS[0]})
    began = time.monotonic()
    operation(ostiary, "director.flush", {"upstream": "many", "host": HOSTS[0]})
    return users, (time.monotonic() - began) * 1000


def listed(ostiary: Ostiary, count: int) -> float:
    """Milliseconds of a `who`, while `count` users have a connection each."""
    return asyncio.run(_listed(ostiary, count))


async def _listed(ostiary: Ostiary, count: int) -> float:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 1000)), hard))
    open_ = []
    for start in range(0, count, 100):
        numbers = range(start, min(start + 100, count))
        open_ += await asyncio.gather(*(_arrive(ostiary.gateway, number) for number in numbers))
    spans = [await asyncio.to_thread(who, ostiary, count) for _ in range(LOOKS)]
    for writer in open_:
        writer.close()
    return median(spans)


async def _arrive(port: int, number: int) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /who HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(number)}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Failed(f"a user was answered {head[:40]!r}")
    return writer


def who(ostiary: Ostiary, count: int) -> float:
    """One look, in milliseconds; Failed where somebody is missing."""
    began = time.monotonic()
    content = answer(ostiary, "sessions.list", {"limit": count})
    took = (time.monotonic() - began) * 1000
    rows = json.loads(content)  # takes nearly as long, and is not part of it
    if len(rows) != count:
        raise Failed(f"{len(rows)} sessions are listed where {count} are open")
    return took


OWNER = "Basic YWRtaW46b25seSBmb3IgdGhpcyBjb21wYXJpc29u"


def operation(ostiary: Ostiary, name: str, params: dict[str, object], credential: str = OWNER) -> Any:
    """An operation by the owner; Failed where it is refused."""
    return json.loads(answer(ostiary, name, params, credential))


def answer(ostiary: Ostiary, name: str, params: dict[str, object], credential: str = OWNER) -> bytes:
    """The same, as it was sent."""
    link = http.client.HTTPConnection("127.0.0.1", ostiary.admin, timeout=300)
    fields = {"Authorization": credential, "Content-Type": "application/json"}
    link.request("POST", f"/operations/{name}", json.dumps(params), fields)
    response = link.getresponse()
    content = response.read()
    link.close()
    if response.status != 200:
        raise Failed(f"{name}: {response.status} {content.decode(errors='replace')[:500]}")
    return content


def look_up() -> float:
    """Microseconds in which a worker that knows many users finds the backend of one, in this process."""
    upstream = Upstream(Definition("u", (), "director", director=Director()), Counter())
    director, backend, now = upstream.director, upstream.backend("127.0.0.1:80"), time.monotonic_ns()
    if director is None:
        raise Failed("an upstream with a director has none")
    for number in range(KNOWN):
        question = Question("u", "", f"user{number}")
        director.take_in(Place(question, "127.0.0.1", backend.address, number, 900), backend, now)
    names = [f"user{number}" for number in random.Random(1).sample(range(KNOWN), LOOKED_UP)]
    return (
        min(timeit.repeat(lambda: [director.find("", name, now) for name in names], number=10)) / 10 / LOOKED_UP * 1e6
    )


def outcome(stage: Stage, scores: Scores, absent: dict[str, str], found: Found) -> Outcome:
    """Figures and table."""
    steering = scores.cpu("Ostiary") - scores.cpu(WITHOUT)
    figures = [
        Figure("director_steering_us", steering, 2.0, "what steering a known user adds to a request, us of CPU"),
        Figure("director_path_us", steering_us(), 2.0, "the same in the worker's code alone, without sockets, us"),
        Figure("director_look_up_us", look_up(), 2.0, f"of that, finding one of {KNOWN:,} known users, us"),
        *(
            Figure(
                f"director_cpu_vs_{name.lower()}", scores.cpu_ratio("Ostiary", name), None,
                f"CPU a request, beside consistent hashing in {name}", absent.get(name, ""),
            )
            for name in (NGINX_HASH.name, HAPROXY_HASH.name)
        ),
        Figure("director_million_mb", found.bytes / 1e6, 250, "1,000,000 assignments, in the store and in control, MB"),
        Figure("director_flush_ms", found.flush, 200, f"flush of a backend with {found.moved:,} users, ms"),
        Figure("director_who_ms", found.who, 50, f"sessions.list of {found.sessions:,} sessions, ms"),
    ]  # fmt: skip
    notes = f"{stage.scale.assignments:,} assignments to {len(HOSTS)} hosts; the flush moves those of one that is down."
    return Outcome("The director", figures, COLUMNS, table(scores, absent), notes)
