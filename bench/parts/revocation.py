"""A revocation with four workers under steady traffic that shows the very token: how long until it is answered, how
long until the last worker refuses, and that nothing passes which was sent after the answer.
"""

import sys
from time import monotonic, sleep

from bench.generator import Job
from bench.load import HEADERS, PATH
from bench.measure import percentile
from bench.ostiary import Ostiary
from bench.parts.policy import settings
from bench.process import Failed
from bench.report import Figure, Outcome
from bench.stage import Stage, say
from bench.watch import Cut, Ending, Watch, ending, watching

WORKERS = 4
CONNECTIONS = 64
"""So many that no worker is without one."""
RATE = 5_000
PAUSE = 0.04
"""Seconds of traffic with each token before it is revoked: every worker remembers it by then."""
PROOF = 0.01
"""Seconds of traffic with it afterwards."""


def revoked(gateway: Ostiary, watch: Watch, tokens: list[str]) -> list[Cut]:
    """Show, revoke and show again one token after the other."""
    cuts = []
    for number, token in enumerate(tokens):
        watch.current = number
        sleep(PAUSE)
        asked = monotonic()
        gateway.revoke(token)
        cuts.append(Cut(number, asked, monotonic()))
        if f"workers {WORKERS}/{WORKERS}" not in gateway.receipt:
            raise Failed(f"a revocation was answered for other workers than all: {gateway.receipt}")
        sleep(PROOF)
    return cuts


def measure(stage: Stage) -> Outcome:
    """Revoke one token after the other."""
    sys.setswitchinterval(0.0002)  # what waits for an answer here is not to wait for the traffic
    with (
        stage.backend("canned") as backend,
        stage.ostiary("ostiary", settings(backend, ""), workers=WORKERS) as ostiary,
    ):
        application = ostiary.application()
        tokens = [ostiary.token(application) for _ in range(stage.scale.revokes)]
        job = Job(ostiary.gateway, CONNECTIONS, 0, RATE, HEADERS, [PATH], tokens=tokens)
        with watching(job) as watch:
            cuts = revoked(ostiary, watch, tokens)
    endings = [ending(watch.seen, cut) for cut in cuts]
    say(f"  {len(cuts)} revocations, {sum(each.refused for each in endings)} requests refused after them")
    return outcome(cuts, endings)


def outcome(cuts: list[Cut], endings: list[Ending]) -> Outcome:
    """Figures and table."""
    answers = [(cut.answered - cut.asked) * 1000 for cut in cuts]
    lasts = [each.last * 1000 for each in endings]
    passed = sum(each.passed for each in endings)
    figures = [
        Figure("revoke_p50_ms", percentile(answers, 50), None, f"revocation answered, {WORKERS} workers, ms"),
        Figure("revoke_p99_ms", percentile(answers, 99), 20, "the same, p99"),
        Figure("revoke_last_passed_p99_ms", percentile(lasts, 99), None, "until the last request that passed, p99, ms"),
        Figure("revoke_passed_after", passed, 0, "requests admitted that were sent after the answer"),
    ]
    columns = ["", "p50 ms", "p99 ms", "most ms"]
    rows = [
        [name, *(f"{value:.2f}" for value in (percentile(each, 50), percentile(each, 99), max(each)))]
        for name, each in (("answered", answers), ("last request that passed was sent", lasts))
    ]
    notes = (
        f"{len(cuts)} revocations with {WORKERS} workers at {RATE:,} requests/s, all of which showed the token in "
        f"question; {sum(each.refused for each in endings):,} were sent after the answers and refused, {passed} passed."
    )
    return Outcome("Revocation", figures, columns, rows, notes)
