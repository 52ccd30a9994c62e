"""A snapshot on its way in: all that it needs is built beside the one that serves, which it replaces as a whole."""

from collections.abc import Mapping

from ostiary.core.snapshot import Snapshot
from ostiary.gateway.accounting import Accounts
from ostiary.gateway.bundled import BUNDLED
from ostiary.gateway.generation import Generation
from ostiary.gateway.plugins import Plugins
from ostiary.gateway.tls import client_context, server_context
from ostiary.gateway.upstream import Upstream


class Building:
    """The next generation, its upstreams and TLS contexts. Upstreams that stay as they are keep their connections.

    `members`: upstream -> backends that it has besides its own. ValueError or OSError for what cannot be built here.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        known: Mapping[str, Upstream],
        members: Mapping[str, list[str]],
        accounts: Accounts,
    ) -> None:
        self.snapshot = snapshot
        plugins = _plugins(snapshot)
        self.upstreams = {
            each.name: known[each.name]
            if each.name in known and known[each.name].definition == each
            else Upstream(each, accounts.counters)
            for each in snapshot.upstreams
        }
        for name, upstream in self.upstreams.items():
            upstream.join(members.get(name, []))
        self._contexts = {each.name: client_context(each.tls) for each in snapshot.upstreams if each.tls}
        tls = snapshot.gateway.tls
        self.context = server_context(tls) if tls else None
        """Of the listener."""
        self.generation = Generation(snapshot, plugins, self.upstreams, accounts)

    def complete(self) -> bool:
        """Whether all routes are in."""
        return self.generation.taken == self.snapshot.routes

    def enter(self) -> None:
        """It serves from now on: connections to backends use its certificates."""
        for name, upstream in self.upstreams.items():
            upstream.context = self._contexts.get(name)


def _plugins(snapshot: Snapshot) -> Plugins:
    plugins = Plugins(BUNDLED)
    for name, source in snapshot.gateway.plugins.items():
        if problem := plugins.declare(name, source, snapshot.gateway.plugin_directory):
            raise ValueError(problem)
    return plugins
