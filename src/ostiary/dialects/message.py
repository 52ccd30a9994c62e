"""What a dialect reads and writes: a request on control's own listeners, and its answer."""

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Protocol, runtime_checkable
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from ostiary.core.mask import Network, parse_address

Pairs = list[tuple[str, str]]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Request(Struct):
    """One request. Text is Latin-1 where the wire has bytes above ASCII (header values)."""

    method: str
    path: str
    """As sent, without the query."""
    query: str = ""
    headers: dict[str, list[str]] = {}
    """Lower-case name -> its values, in the order of the message."""
    host: str = ""
    body: bytes = b""
    peer: str = ""
    """The address at the other end of the TCP connection; empty on a Unix socket."""
    address: str = ""
    """Who asks, for audit and throttling: `peer`, or the right-most address that is no trusted proxy's."""
    secure: bool = False
    """Whether the client's side is https."""
    public: bool = False
    """Forwarded by a worker from the gateway's listener: only public paths, never trusted."""
    request_id: str = ""
    oversized: bool = False
    """More was sent than the dialect takes; `body` is empty and the connection closes after the answer."""

    def one(self, name: str) -> str:
        """The value of a header that is there exactly once, else empty."""
        values = self.headers.get(name, [])
        return values[0] if len(values) == 1 else ""

    def media_type(self) -> str:
        """The essence of Content-Type in lower case, without parameters."""
        return self.one("content-type").partition(";")[0].strip(" \t").lower()

    def pairs(self) -> Pairs:
        """The query's parameters in order."""
        return parse_pairs(self.query)


class Answer(Struct, frozen=True):
    """An answer. Content-Length, Date, Connection and X-Request-ID are the connection's to add."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    """Empty: the standard phrase."""
    close: bool = False
    after: Callable[[], None] | None = None
    """Called once the whole answer has been handed to the system, or the connection has ended."""
    stream: AsyncGenerator[bytes, None] | None = None
    """Further pieces of the body, written as they come; closed when the client leaves. HEAD asks for none."""


class Application(Protocol):
    """What stands behind a listener."""

    def room(self, request: Request) -> int:
        """How many bytes of body this request may bring, by its head alone."""
        ...

    async def answer(self, request: Request) -> Answer:
        """The answer, for every request, oversized ones too. Raises nothing that a client can cause."""
        ...

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        """The answer to what is no request, or one whose body never came: `path` may be a guess or empty."""
        ...


@runtime_checkable
class Guarded(Protocol):
    """An application that looks at who is asking before it waits for what they ask."""

    async def admit(self, request: Request) -> Answer | None:
        """What a request gets whose body is not worth waiting for, by its head alone; None: it is."""


Look = Callable[[Request], Answer | None]
"""The answer to a request that is whole, where there is one at once. Raises nothing that a client can cause."""


@runtime_checkable
class Quick(Protocol):
    """An application that answers some requests without waiting for anything: then none gets a task of its own."""

    def look(self, request: Request) -> Look | None:
        """What to ask about requests with this head, whatever their id; None: they always take their time."""
        ...


def json_answer(status: int, value: object, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """A JSON body, compact."""
    return Answer(status, msgspec.json.encode(value), (("Content-Type", JSON), *headers))


def parse_pairs(text: str) -> Pairs:
    """Form-urlencoded text in order, blank values kept; bytes that are no UTF-8 become U+FFFD, which no name holds."""
    parts = (part.partition("=") for part in text.split("&") if part)
    return [(_plain(name), _plain(value)) for name, _, value in parts]


def _plain(text: str) -> str:
    return segment(text.replace("+", " "))


def repeated(pairs: Pairs) -> str | None:
    """The first name that is given more than once."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return None


def segment(text: str) -> str:
    """A path segment, percent-decoded once; bytes that are no UTF-8 become U+FFFD."""
    return unquote(text, errors="replace") if "%" in text else text


def within(text: str, networks: Iterable[Network]) -> bool:
    """Whether `text` is an address in one of the networks."""
    address = parse_address(text)
    return address is not None and any(address in network for network in networks)


def client_address(peer: str, headers: Mapping[str, list[str]], proxies: tuple[Network, ...]) -> str:
    """Who asks, as a believed peer says: the right-most address of X-Forwarded-For that is no trusted proxy's."""
    hops = [hop.strip(" \t") for value in headers.get("x-forwarded-for", []) for hop in value.split(",")]
    nearest = peer
    for hop in reversed(hops):
        if parse_address(hop) is None:
            return nearest
        nearest = hop
        if not within(hop, proxies):
            return nearest
    return nearest
