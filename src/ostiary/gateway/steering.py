"""Steering an exchange: its backend is the one of its user, which the worker remembers or asks control for."""

from typing import TYPE_CHECKING

from ostiary.gateway.asking import LATER, SOON
from ostiary.gateway.director import Assigned, Director, nobody
from ostiary.link.messages import Question

if TYPE_CHECKING:
    from ostiary.gateway.exchange import Exchange


def steer(exchange: "Exchange", director: Director, now: int) -> None:
    """It goes to the backend of this user, and to no other."""
    worker, admitted = exchange.worker, exchange.admitted
    if exchange.tried:
        exchange.refuse_backend(502, "the user's backend could not be reached")
        return
    tag = (admitted.tag if admitted is not None else "") or exchange.target.rules.director_tag
    name = director.name(exchange)
    assigned = director.find(tag, name, now) if name and now < worker.lease_until else None
    if assigned is not None:
        assign(exchange, assigned, now)
    else:
        _look_up(exchange, director, Question(director.upstream, tag, name or nobody(exchange), bool(name)), now)


def assign(exchange: "Exchange", assigned: Assigned, now: int) -> None:
    """It goes where its user is."""
    exchange.assigned = assigned
    if assigned not in exchange.client.assigned:
        exchange.client.use(assigned)
    exchange.go(assigned.stay.backend, now)


def _look_up(exchange: "Exchange", director: Director, question: Question, now: int) -> None:
    """Who has no name may have been seen before; for others, control is asked, and waits while a user is moved."""
    worker = exchange.worker
    leased = now < worker.lease_until
    backend = director.nameless(question) if leased and not question.kept else None
    exchange.assigned = exchange.chosen = None
    if backend is not None:
        exchange.go(backend, now)
    elif worker.steer(question, exchange):
        grace = max(worker.settings.kick_grace * 1000, director.drain)
        later = LATER + grace if leased else SOON
        exchange.wait(lambda: worker.unask_place(question, exchange), now + later, 503)
    else:
        exchange.unavailable("control is away")
