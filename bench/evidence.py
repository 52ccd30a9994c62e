"""What hosts and users of a director saw, and what it proves."""

import math
from collections import Counter
from typing import NamedTuple

from bench import visitors
from bench.visitors import Ask
from bench.visits import LOST, Overlap, Visit, overlaps

FAILED = "failed"
CLOSING = "asked again, because the connection was just ending"
IN_WORKER = "in flight in the killed worker"
IN_FLIGHT = "in flight to the killed backend"
TOO_SOON = "to the killed backend, before it was found dead"
AT_ONCE = 0.5
"""Seconds in which the end of a worker is seen on a connection on which it had not said anything yet."""


class Gone(NamedTuple):
    """A host to which nothing was to come from one moment to another."""

    host: int
    since: float
    until: float = math.inf


class Kill(NamedTuple):
    """When a process was killed; a host: which, and when it was down and empty."""

    what: str
    moment: float
    host: int = 0
    known: float = 0.0
    users: frozenset[int] = frozenset()
    """Who were at that host."""


class Evidence:
    """What hosts and users saw."""

    def __init__(self, visits: list[Visit], asked: list[Ask], kills: list[Kill]) -> None:
        self.visits = sorted(visits, key=lambda visit: (visit.user, visit.began))
        self.asked = asked
        self.kills = kills
        self._visit = {visit.request: visit for visit in visits}
        self._sent = {ask.request: ask.sent for ask in asked}
        answers = sorted((ask.sent, ask.worker) for ask in asked if ask.status > 0)
        self._heard = {worker: moment for moment, worker in answers}
        """When the last request was sent that each worker answered."""

    def split(self) -> tuple[list[Overlap], list[Overlap]]:
        """Users at two hosts at once; those apart where the first visit may have been over before its host saw that."""
        found = overlaps(self.visits)
        return (
            [each for each in found if each.first.ending != LOST],
            [each for each in found if each.first.ending == LOST],
        )

    def at_removed(self, gone: Gone) -> list[Visit]:
        """Visits that began at a removed host, or had not ended, after its removal was answered."""
        there = [each for each in self.visits if each.host == gone.host]
        return [each for each in there if each.began < gone.until and each.ended > gone.since]

    def sent_to(self, gone: Gone) -> list[Visit]:
        """Visits to a host whose requests were sent after it was emptied."""
        there = [each for each in self.visits if each.host == gone.host and each.began < gone.until]
        return [each for each in there if self._sent[each.request] > gone.since]

    def strayed(self, begin: float, end: float) -> int:
        """How many users were at several hosts in a time in which nobody moved anybody."""
        places = {(each.user, each.host) for each in self.visits if begin <= each.began < end}
        return len(places) - len({user for user, _ in places})

    def failed(self) -> list[Ask]:
        """Requests that failed for no reason that excuses it."""
        return [ask for ask in self.asked if self.reason(ask) == FAILED]

    def apart(self) -> dict[str, int]:
        """How many requests found no answer, and why that is no fault."""
        reasons = Counter(self.reason(ask) for ask in self.asked)
        return {reason: count for reason, count in reasons.items() if reason not in ("", FAILED)}

    def reason(self, ask: Ask) -> str:
        """Why a request found no answer; empty: it did."""
        if ask.status == 200:
            return ""
        visit = self._visit.get(ask.request)
        if ask.status == visitors.LOST and ask.again and visit is None:
            return CLOSING
        return next((why for kill in self.kills if (why := self._because(kill, ask, visit))), FAILED)

    def _because(self, kill: Kill, ask: Ask, visit: Visit | None) -> str:
        """How a kill explains that a request found no answer; empty: it does not."""
        if kill.what == "worker" and ask.status in (visitors.LOST, visitors.CUT):
            return IN_WORKER if kill.moment <= ask.answered and self._ended(ask, kill) else ""
        meanwhile = kill.moment <= ask.answered and ask.sent <= kill.known
        if not kill.host or not meanwhile or ask.status not in (visitors.CUT, 502, 504):
            return ""
        if visit is not None:
            return IN_FLIGHT if visit.host == kill.host else ""
        return TOO_SOON if ask.user in kill.users else ""

    def _ended(self, ask: Ask, kill: Kill) -> bool:
        """Whether the request was at the worker that was killed: which answered nothing that was sent from then on."""
        if not ask.worker:
            return ask.answered < kill.moment + AT_ONCE
        return self._heard.get(ask.worker, 0.0) < kill.moment
