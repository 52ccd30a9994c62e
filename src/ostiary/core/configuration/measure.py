"""The small types that settings are written in: durations, sizes, addresses, networks, secrets. Text in, value out.

Each refuses what it cannot read with a ValueError that says how it is written, and never with the text itself where
that may be secret.
"""

import re
from ipaddress import ip_address, ip_network
from typing import Final, Self

DURATION = re.compile(r"([0-9]{1,15})(us|ms|s|m|h|d)")
UNITS = {"us": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86_400 * 10**6}
LONGEST: Final = 3650 * UNITS["d"]
SIZE = re.compile(r"([0-9]{1,16})(B|[KMGT](?:iB)?)")
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
LARGEST: Final = 1 << 50
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):([0-9]{1,5})")
ISSUER = re.compile(r"https?://[^/?#\s@]+(?:/[^/?#\s]+)*")
ORIGIN = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")
REDACTED: Final = "[redacted]"


class Duration(int):
    """Whole microseconds, written `250ms`, `1s`, `5m`, `30d`."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """The duration that `text` writes; at most 3650d."""
        match = DURATION.fullmatch(text) if isinstance(text, str) else None
        if not match:
            raise ValueError("expected a duration: a whole number and its unit (us, ms, s, m, h, d), such as 30s")
        value = int(match[1]) * UNITS[match[2]]
        if value > LONGEST:
            raise ValueError("a duration is at most 3650d")
        return cls(value)

    def __str__(self) -> str:
        unit = next(unit for unit in reversed(UNITS) if self % UNITS[unit] == 0) if self else "s"
        return f"{self // UNITS[unit]}{unit}"


class Timeout(Duration):
    """A duration that is not zero: waiting no time at all would refuse everything."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """As Duration.parse, and more than nothing."""
        value = super().parse(text)
        if not value:
            raise ValueError("expected a duration longer than 0s")
        return value


class Size(int):
    """Whole bytes, written `512B`, `16KiB` or `16K`, `1MiB` or `1M`."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """The size that `text` writes; at most 1024TiB."""
        match = SIZE.fullmatch(text) if isinstance(text, str) else None
        if not match:
            raise ValueError("expected a size: a whole number and its unit (B, KiB, MiB, GiB, TiB), such as 16KiB")
        unit = match[2] if match[2] in SIZES else f"{match[2]}iB"  # 256M, as container engines write it
        value = int(match[1]) * SIZES[unit]
        if value > LARGEST:
            raise ValueError("a size is at most 1024TiB")
        return cls(value)

    def __str__(self) -> str:
        unit = next(unit for unit in reversed(SIZES) if self % SIZES[unit] == 0) if self else "B"
        return f"{self // SIZES[unit]}{unit}"


class Address(str):
    """Where to listen: `127.0.0.1:8080`, `[::1]:8080`, `localhost:0` (port 0: any free one)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """The address that `text` writes."""
        _host_and_port(text, 0, "expected HOST:PORT to listen on, such as 127.0.0.1:8080 or [::1]:8080")
        return cls(text)

    @property
    def host(self) -> str:
        """Without the brackets of an IPv6 address."""
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0: any free one."""
        return int(self.rpartition(":")[2])


class Backend(str):
    """Who answers: `host:port`, `[v6]:port` or `unix:/path`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """The backend that `text` names."""
        problem = "expected HOST:PORT, [IPV6]:PORT or unix:/PATH of a backend, such as 127.0.0.1:5000"
        if isinstance(text, str) and text.startswith("unix:"):
            if not text.startswith("unix:/") or "\0" in text or len(text.encode(errors="replace")) > 107:
                raise ValueError("a Unix socket is written unix:/absolute/path, at most 102 bytes of path")
        else:
            _host_and_port(text, 1, problem)
        return cls(text)


class Network(str):
    """Addresses that share a prefix: `10.0.0.0/8`, `::1/128`, or one address."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """The network that `text` names, in its shortest form."""
        if not isinstance(text, str):
            raise ValueError("expected a network such as 10.0.0.0/8 or ::1/128")
        try:
            return cls(ip_network(text))
        except ValueError as problem:
            hint = "has bits set after its prefix" if "host bits" in str(problem) else "is not a network"
            raise ValueError(f"{text[:64]!r} {hint}; write one such as 10.0.0.0/8 or ::1/128") from problem


class Host(str):
    """A name by which a listener is called, without a port."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """The host name that `text` is, in lower case."""
        if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", text):
            raise ValueError("expected a host name without a port, such as gateway.example.org")
        return cls(text.lower())


class Issuer(str):
    """The URL that names this server in tokens and metadata, without a trailing slash, query or fragment."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """The issuer that `text` is; empty stands for the gateway's own URL."""
        if not isinstance(text, str) or (text and not ISSUER.fullmatch(text)):
            raise ValueError("expected an http or https URL without trailing slash, query or fragment")
        return cls(text)


class Origin(str):
    """The URL of a whole host: scheme, host and perhaps port, nothing behind them."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """The origin that `text` is; empty stands for none."""
        if not isinstance(text, str) or (text and not ORIGIN.fullmatch(text)):
            raise ValueError("expected an http or https URL of a host and nothing behind it")
        return cls(text)


class Url(str):
    """A URL that may hold a password, which `redacted` leaves out."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """The URL that `text` is; empty where the setting has a default."""
        if not isinstance(text, str) or (text and not re.match(r"[a-z][a-z0-9+.-]*:", text)):
            raise ValueError("expected a URL such as sqlite:///var/ostiary.db")
        return cls(text)

    @property
    def redacted(self) -> str:
        """The URL with its password, and what looks like one in its query, replaced."""
        text = re.sub(r"(?<=//)([^/?#]*?):([^/?#]*)@", rf"\1:{REDACTED}@", self)
        return re.sub(r"(?i)([?&](?:(?:ssl)?password|passwd|pwd|secret|token|key)=)[^&#]*", rf"\1{REDACTED}", text)

    def __repr__(self) -> str:
        return f"Url({self.redacted!r})"


class Secret:
    """A text that is never shown: not by repr, str or format. `reveal` gives it to whoever truly needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)


def _host_and_port(text: object, lowest: int, problem: str) -> None:
    match = ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError(problem)
    if not lowest <= int(match[2]) <= 65_535:
        raise ValueError(f"expected a port from {lowest} to 65535")
    if match[1].startswith("["):
        try:
            ip_address(match[1][1:-1])
        except ValueError as fault:
            raise ValueError(problem) from fault


Measure = Duration | Size | Address | Backend | Network | Host | Issuer | Origin | Url
MEASURES: Final[dict[object, type[Measure]]] = {
    kind: kind for kind in (Duration, Timeout, Size, Address, Backend, Network, Host, Issuer, Origin, Url)
}


def shown(value: object) -> object:
    """A setting's value as it may be shown: measures as they are written, secrets redacted."""
    if isinstance(value, Secret):
        return REDACTED
    if isinstance(value, Url):
        return value.redacted
    if isinstance(value, Duration | Size | str):
        return str(value)
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    if isinstance(value, dict):
        return {str(key): shown(item) for key, item in value.items()}
    return value
