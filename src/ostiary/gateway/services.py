"""Services of the data plane that operators stop and start: `http` (clients connect) and `ws` (tunnels open)."""

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ostiary.gateway.worker import Worker


class Services:
    """Those of a worker. What is under way in one that stops may end, as long as when the worker itself drains."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._since: dict[str, int] = {}
        """When each was stopped the last time (monotonic ns)."""
        self.stopped: frozenset[str] = frozenset()

    def turn(self, stopped: frozenset[str]) -> None:
        """Stop these and start the others, at once."""
        worker = self._worker
        ending, starting = stopped - self.stopped, self.stopped - stopped
        self.stopped = stopped
        worker.closing = worker.draining or "http" in stopped
        if "http" in ending:
            self._stop_http()
        if "http" in starting and not worker.draining:
            worker.listener.start()
            worker.work(worker.listener.accept())
        if ending:
            moment = monotonic_ns()
            self._since |= dict.fromkeys(ending, moment)
            worker.work(self._cut_late(moment))

    def _stop_http(self) -> None:
        self._worker.listener.stop()
        for client in list(self._worker.clients):
            if not client.tunnelling():
                client.drain()

    async def _cut_late(self, moment: int) -> None:
        """End what is still under way in services that were stopped then and since, when the drain timeout is over."""
        await asyncio.sleep(self._worker.settings.drain_timeout / 1e6)
        over = {service for service in self.stopped if self._since.get(service) == moment}
        for client in list(self._worker.clients):
            if ("ws" if client.tunnelling() else "http") in over:
                client.end_now(None, "service stopped")

    def closed(self, service: str) -> bool:
        """Whether it is stopped, and the drain timeout is over: nothing of it is waited for any more."""
        if service not in self.stopped:
            return False
        return monotonic_ns() - self._since[service] > self._worker.settings.drain_timeout * 1000
