"""How long a revocation takes until it is confirmed, under load; and that it then holds."""

import http.client
from time import sleep

from bench.load import PATH
from bench.measure import percentile
from bench.ostiary import Ostiary
from bench.parts.policy import settings
from bench.process import Failed
from bench.report import Figure, Outcome
from bench.stage import Stage, job

CONNECTIONS = 32
PAUSE = 0.02
"""Seconds between two revocations, so that they meet the load in different moments."""


def status(connection: http.client.HTTPConnection, token: str) -> int:
    """What the gateway says to a token."""
    connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def revoked(gateway: Ostiary, tokens: list[str]) -> list[float]:
    """Use each token, so that workers remember it, revoke it, and see that it is refused. Seconds of each."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.gateway, timeout=30)
    seconds = []
    for token in tokens:
        if (before := status(connection, token)) != 200:
            raise Failed(f"a token was answered {before} before it was revoked")
        seconds.append(gateway.revoke(token))
        if (after := status(connection, token)) != 401:
            raise Failed(f"a token was answered {after} after it was revoked")
        sleep(PAUSE)
    connection.close()
    return seconds


def measure(stage: Stage) -> Outcome:
    """Revoke one token after the other beside steady traffic."""
    with (
        stage.backend("canned") as backend,
        stage.ostiary("ostiary", settings(backend, "")) as ostiary,
    ):
        application = ostiary.application()
        program = ostiary.running(ostiary.token(application))
        tokens = [ostiary.token(application) for _ in range(stage.scale.revokes)]
        rate = stage.saturate(program, 2).rate / 2
        load = stage.load(job(program, 0, CONNECTIONS, rate))
        sleep(1)
        seconds = revoked(ostiary, tokens)
        result = load.stop()
    if result.failures:
        raise Failed(f"failures beside the revocations: {result.failures}")
    p50, p99 = (percentile(seconds, percent) * 1000 for percent in (50, 99))
    figures = [
        Figure("revoke_p50_ms", p50, None, "revocation confirmed by every worker, under load, ms"),
        Figure("revoke_p99_ms", p99, None, "the same, p99"),
    ]
    columns = ["revocations", "requests/s beside them", "p50 ms", "p99 ms"]
    row = [str(len(seconds)), f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}"]
    return Outcome("Revocation", figures, columns, [row])
