"""Plain proxying: a public route, no token, no access log, beside the proxies that do as little."""

from bench.contest import COLUMNS, contest, table
from bench.load import PATH
from bench.ostiary import Settings
from bench.peers import ENVOY, HAPROXY, NGINX
from bench.report import Figure, Outcome
from bench.stage import Stage

TARGETS = {NGINX.name: 1.4, HAPROXY.name: None, ENVOY.name: 0.6}


def settings(backend: int) -> Settings:
    """One public route."""
    return {
        "upstreams": {"backend": {"servers": [f"127.0.0.1:{backend}"]}},
        "routes": [{"match": f"GET {PATH}", "to": "/countries", "upstream": "backend"}],
    }


def measure(stage: Stage) -> Outcome:
    """CPU a request of all, taking turns."""
    with (
        stage.backend("canned") as backend,
        stage.ostiary("ostiary", settings(backend)) as ostiary,
        stage.peers([NGINX, HAPROXY, ENVOY], backend) as (peers, absent),
    ):
        scores = contest(stage, [ostiary.running(), *peers], stage.scale.long_rounds)
    figures = [
        Figure(
            f"plain_cpu_vs_{name.lower()}",
            scores.cpu_ratio("Ostiary", name),
            target,
            f"plain proxying: CPU a request, beside {name}",
            absent.get(name, ""),
        )
        for name, target in TARGETS.items()
    ]
    return Outcome("Plain proxying", figures, COLUMNS, table(scores, absent))
