"""Upstreams as the workers run them, each with its number: those of the settings, and those that mapping files name."""

from ostiary.core.configuration.own import RESERVED
from ostiary.core.configuration.settings import Settings, UpstreamSettings
from ostiary.core.snapshot import Director, Upstream, UpstreamTls


class Upstreams:
    """All upstreams of a configuration. Number 0 is Ostiary itself; `public` is the path of control's Unix socket."""

    def __init__(self, public: str) -> None:
        self.made: list[Upstream] = []
        self._numbers: dict[str, int] = {}
        self.add(Upstream(RESERVED, (f"unix:{public}",), preserve_host=True))

    def add(self, upstream: Upstream) -> int:
        """A further one; its number."""
        number = self._numbers[upstream.name] = len(self.made)
        self.made.append(upstream)
        return number

    def number(self, name: str) -> int | None:
        """That of an upstream which a route may name, if there is such a one."""
        return None if name == RESERVED else self._numbers.get(name)

    def pair(self, host: str, port: int) -> int:
        """The number of the upstream that a mapping file's host and port are; made where it is new."""
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        known = self._numbers.get(name)
        return self.add(Upstream(name, (name,))) if known is None else known


def upstream(name: str, settings: UpstreamSettings, drain: int) -> Upstream:
    """An upstream as the workers run it. `drain`: of its droplets, the longest (microseconds)."""
    tls = settings.tls
    return Upstream(
        name,
        tuple(map(str, settings.servers)),
        settings.balance,
        settings.preserve_host,
        int(settings.connect_timeout),
        int(settings.timeout),
        int(settings.idle_timeout),
        settings.max_connections,
        int(settings.fail_timeout),
        UpstreamTls(tls.ca, tls.name, tls.verify, tls.certificate, tls.key) if tls else None,
        director(settings, drain) if settings.balance == "director" else None,
    )


def director(settings: UpstreamSettings, drain: int) -> Director:
    """How the workers find out who a user is, and how long one may have to wait."""
    return Director(settings.director_port, settings.user_from, settings.user_hash, int(settings.user_expire), drain)


def longest_drain(settings: Settings, upstream: UpstreamSettings) -> int:
    """What requests in flight at a droplet of this upstream may have at most (microseconds)."""
    source, templates = upstream.droplets, settings.droplets.templates
    if source is None:
        return 0
    return max((int(each.stop.drain) for name, each in templates.items() if source.template in ("", name)), default=0)
