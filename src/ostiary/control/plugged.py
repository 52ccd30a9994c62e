"""Plug-ins that authenticate people: found by their entry points, imported only when the configuration names them."""

import asyncio
import importlib.metadata
import inspect
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

from ostiary.core.oauth.people import AuthenticationFailed, User, user_ok
from ostiary.core.refusal import Unauthenticated

log = logging.getLogger("ostiary.control")
Kind = Literal["authenticators", "grants"]
PATIENCE = 5.0
"""Seconds that a plug-in may take."""
AT_ONCE = 16
"""Plug-ins that run in threads at the same time; one that never ends keeps its thread."""


# The message's own framing is the connection's: no plug-in may say it.
_FIELD = re.compile(r"(?!(?i:content-length|transfer-encoding|connection)$)[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_VALUE = re.compile(r"[\t -~]{0,4096}", re.ASCII)


class Failed(Unauthenticated):
    """A plug-in's own refusal."""

    def __init__(self, failure: AuthenticationFailed) -> None:
        super().__init__("user.failed", failure.message or "The user could not be authenticated")
        self.status = failure.status
        self.headers = failure.headers
        self.body = failure.body
        self.own = bool(failure.message or failure.body is not None or failure.headers or failure.status != 401)
        """It says more than no."""


def problem(kind: Kind, name: str) -> str:
    """Why the plug-in `name` cannot be had; empty if it can."""
    try:
        found = load(kind, name)
    except (Exception, SystemExit) as failure:
        return f"the plug-in {name} does not load: {type(failure).__name__}: {failure}"
    return "" if callable(found) else f"the plug-in {name} is no function"


@cache
def load(kind: Kind, name: str) -> Callable[..., Any]:
    """The function behind an entry point of the group `ostiary.KIND`. LookupError where there is none."""
    points = importlib.metadata.entry_points(group=f"ostiary.{kind}", name=name)
    if not points:
        raise LookupError(f"no installed distribution has the entry point {name} in ostiary.{kind}")
    found: Callable[..., Any] = next(iter(points)).load()
    return found


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, "authenticators")


async def ask(kind: Kind, name: str, *arguments: object, patience: float = PATIENCE) -> User:
    """The user that a plug-in gives.

    Refuses Failed as the plug-in says; Unauthenticated `user.refused` for None, `user.undecided` for whatever else
    goes wrong, a wait of more than `patience` seconds too.
    """
    try:
        user = await asyncio.wait_for(_run(load(kind, name), arguments), patience)
    except AuthenticationFailed as failure:
        if not answer_ok(failure):
            log.warning("The plug-in %s of ostiary.%s gave no answer that can be sent", name, kind)
            raise _undecided() from None
        raise Failed(failure) from None
    except Exception as failure:
        log.warning("The plug-in %s of ostiary.%s failed: %s", name, kind, type(failure).__name__)
        raise _undecided() from failure
    if user is None:
        raise Unauthenticated("user.refused", "The user could not be authenticated")
    if not isinstance(user, User) or not user_ok(user):
        log.warning("The plug-in %s of ostiary.%s gave no user", name, kind)
        raise _undecided()
    return user


def answer_ok(failure: AuthenticationFailed) -> bool:
    """Whether a plug-in's own answer can be sent: a failure's status, and headers that are each one line."""
    fields = all(_FIELD.fullmatch(name) and _VALUE.fullmatch(value) for name, value in failure.headers.items())
    return 400 <= failure.status <= 599 and fields


async def _run(function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    return await asyncio.get_running_loop().run_in_executor(_threads(), function, *arguments)


def _undecided() -> Unauthenticated:
    return Unauthenticated("user.undecided", "The user could not be authenticated")
