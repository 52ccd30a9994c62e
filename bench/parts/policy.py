"""The full policy: token, scope, rate limit, access log, metrics and identity headers, beside nginx with Lua."""

from bench.contest import COLUMNS, contest, table
from bench.load import PATH
from bench.ostiary import SCOPE, Settings
from bench.peers import NGINX_LUA
from bench.report import Figure, Outcome
from bench.stage import Stage

ROUTE = {
    "match": f"GET {PATH}",
    "to": "/countries",
    "upstream": "backend",
    "require": {"token": "client-app", "scope": SCOPE},
}


def settings(backend: int, log: str) -> Settings:
    """A limit that counts and never refuses."""
    return {
        "upstreams": {"backend": {"servers": [f"127.0.0.1:{backend}"]}},
        "limits": {"default": {"requests": 10_000_000, "per": "1s"}},
        "log": {"access": log, "level": "WARNING"},
        "routes": [ROUTE],
    }


def measure(stage: Stage) -> Outcome:
    """CPU a request of both, taking turns, twice as often as elsewhere: the figure that matters most."""
    log = str(stage.directory / "access.log")
    with (
        stage.backend("canned") as backend,
        stage.ostiary("ostiary", settings(backend, log)) as ostiary,
        stage.peers([NGINX_LUA], backend) as (peers, absent),
    ):
        program = ostiary.running(ostiary.token(ostiary.application()))
        scores = contest(stage, [program, *peers], 2 * stage.scale.rounds)
    ratio = scores.cpu_ratio("Ostiary", NGINX_LUA.name)
    meaning = "full policy: CPU a request, beside nginx+Lua doing the same"
    figure = Figure("policy_cpu_vs_nginx_lua", ratio, 1.0, meaning, absent.get(NGINX_LUA.name, ""))
    return Outcome("Full policy", [figure], COLUMNS, table(scores, absent))
