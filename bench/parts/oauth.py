"""Tokens issued and introspected a second, durably, beside the OAuth servers that a user would pick instead.

All on one core, the load on another; the same number of clients, each with its next request when its answer is there.
"""

from contextlib import ExitStack
from functools import partial

from bench.contest import Scores, Work, contest
from bench.issuers import DJANGO, OIDC_PROVIDER, Issuer, Kind, ours
from bench.parts.plain import settings
from bench.peers import Absent
from bench.report import Figure, Outcome
from bench.stage import Stage, say

KINDS = [OIDC_PROVIDER, DJANGO]
TOKENS = 100
"""Introspected in turn."""
UNUSED_PORT = 9


def beside(stage: Stage, kinds: list[Kind], stack: ExitStack, absent: dict[str, str]) -> list[Issuer]:
    """The peers that are or can be installed, started; why the others are not, by name."""
    found = []
    for kind in kinds:
        try:
            found.append(stack.enter_context(kind.start(stage)))
        except Absent as reason:
            absent[kind.name] = str(reason)
            say(f"  {kind.name}: {reason}")
    return found


def works(issuers: list[Issuer], most: float) -> dict[str, Work]:
    """What each is asked, by the word for it, for at most so many seconds a turn."""
    by_name = {each.running.name: each for each in issuers}
    tokens = {name: each.tokens(TOKENS) for name, each in by_name.items()}
    return {
        "issue": lambda program, seconds: by_name[program.name].issues(min(seconds, most)),
        "introspect": lambda program, seconds: by_name[program.name].introspections(
            min(seconds, most), tokens[program.name]
        ),
    }


def measure(stage: Stage) -> Outcome:
    """Both kinds of work, all programs taking turns."""
    absent: dict[str, str] = {}
    kinds = KINDS[:1] if stage.scale.quick else KINDS  # the faster one first
    with stage.ostiary("ostiary", settings(UNUSED_PORT)) as gateway, ExitStack() as stack:
        issuers = [*ours(gateway), *beside(stage, kinds, stack, absent)]
        compare = partial(contest, stage, [each.running for each in issuers], stage.scale.long_rounds)
        scores = {}
        for word, work in works(issuers, stage.scale.turn_seconds).items():
            say(f"  {word}:")
            scores[word] = compare(work)
    figures = [
        figure for word, each in scores.items() for kind in kinds for figure in _figures(word, each, kind, absent)
    ]
    return Outcome("Tokens a second", figures, COLUMNS, _rows(scores, absent), NOTES)


def _figures(word: str, scores: Scores, kind: Kind, absent: dict[str, str]) -> list[Figure]:
    name, note = f"oauth_{word}_vs_{kind.name.replace('-', '_')}", absent.get(kind.name, "")
    rate, direct, cpu = (
        scores.rate_ratio("Ostiary", kind.name),
        scores.rate_ratio("Ostiary, admin listener", kind.name),
        scores.cpu_ratio("Ostiary", kind.name),
    )
    return [
        Figure(name, rate, 3, f"{word}: a second, beside {kind.name} (more is better)", note, at_least=True),
        Figure(f"{name}_direct", direct, None, "the same, Ostiary on its admin listener", note),
        Figure(f"{name}_cpu", cpu, None, f"{word}: CPU a request, beside {kind.name}", note),
    ]


COLUMNS = ["program", "issue: CPU µs", "issued/s", "introspect: CPU µs", "introspected/s"]
NOTES = f"""\
{TOKENS} live tokens are introspected in turn. Every client shows its secret, every token lasts before its answer: all
are on SQLite in WAL mode with synchronous=FULL. oidc-provider has an adapter that commits the tokens of one turn of its
event loop together; django-oauth-toolkit has an unhashed client secret and the fastest setting of gunicorn."""


def _rows(scores: dict[str, Scores], absent: dict[str, str]) -> list[list[str]]:
    names = list(next(iter(scores.values())).samples)
    rows = [
        [name, *(text for each in scores.values() for text in (f"{each.cpu(name):.0f}", f"{each.rate(name):,.0f}"))]
        for name in names
    ]
    return rows + [[name, reason, "", "", ""] for name, reason in absent.items()]
