"""Metrics for Prometheus: what the workers counted, summed here, because their reports are differences."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ostiary.control.control import Control
from ostiary.control.services import ALL
from ostiary.link.messages import Report, RouteCount
from ostiary.link.receipt import WorkerStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
EDGES = range(7, 26, 2)
"""Powers of two of microseconds: from 128 us to 33.6 s, each four times the one before."""


class Latencies:
    """One route's latencies: bucket counts by power of two, and their sum in microseconds."""

    __slots__ = ("buckets", "microseconds")

    def __init__(self) -> None:
        self.buckets: list[int] = []
        self.microseconds = 0

    def add(self, counted: RouteCount) -> None:
        missing = len(counted.latencies) - len(self.buckets)
        self.buckets += [0] * missing
        for at, count in enumerate(counted.latencies):
            self.buckets[at] += count
        self.microseconds += counted.microseconds

    def cumulative(self) -> list[tuple[str, float]]:
        """As Prometheus wants it: how many took at most each edge (seconds), and all."""
        edges = [(str((1 << edge) / 1e6), float(sum(self.buckets[: edge + 1]))) for edge in EDGES]
        return [*edges, ("+Inf", float(sum(self.buckets)))]


class Metrics(Collector):
    """The sums since control started."""

    def __init__(self) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.latencies: dict[str, Latencies] = {}
        self.counters: Counter[str] = Counter()
        self.gauges: Counter[str] = Counter()
        self.workers: list[WorkerStatus] = []
        self.penalties: dict[str, int] = {}
        self.stopped: frozenset[str] = frozenset()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._process = ProcessCollector(namespace="ostiary_control", registry=self._registry)
        self._one = asyncio.Lock()

    async def text(self, control: Control) -> bytes:
        """Everything up to now. Summing and writing take a thread, so that leases go on being renewed."""
        async with self._one:
            reports, self.workers = await control.workers.collect(), control.workers.status()
            self.penalties, self.stopped = control.penalties.remembered(), control.services.stopped
            return await asyncio.to_thread(self._written, reports)

    def _written(self, reports: list[Report]) -> bytes:
        self.add(reports)
        return generate_latest(self._registry)

    def add(self, reports: list[Report]) -> None:
        """Sum up. Levels are those of the workers that answered now."""
        self.gauges = Counter()
        for report in reports:
            self.counters.update(report.counters)
            self.gauges.update(report.gauges)
            for counted in report.routes:
                for status, count in counted.statuses.items():
                    self.statuses[counted.route, status] += count
                self.latencies.setdefault(counted.route, Latencies()).add(counted)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry while it writes the text."""
        requests = CounterMetricFamily("ostiary_requests", "Exchanges by route and status", labels=["route", "status"])
        for (route, status), count in sorted(self.statuses.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "ostiary_request_seconds", "From the end of the request head to the end of the answer", labels=["route"]
        )
        for route, latencies in sorted(self.latencies.items()):
            seconds.add_metric([route], latencies.cumulative(), latencies.microseconds / 1e6)
        yield seconds
        events = CounterMetricFamily("ostiary_events", "What workers counted, by name", labels=["event"])
        for event, count in sorted(self.counters.items()):
            events.add_metric([event], count)
        yield events
        levels = GaugeMetricFamily("ostiary_level", "Levels of now, summed over the workers", labels=["level"])
        for level, value in sorted(self.gauges.items()):
            levels.add_metric([level], value)
        yield levels
        up = GaugeMetricFamily("ostiary_worker_up", "Whether control hears the worker", labels=["worker"])
        revision = GaugeMetricFamily("ostiary_worker_revision", "What the worker serves", labels=["worker"])
        for each in self.workers:
            up.add_metric([str(each.worker)], float(each.connected))
            revision.add_metric([str(each.worker)], each.revision)
        yield from (up, revision)
        penalties = GaugeMetricFamily("ostiary_penalties", "What failed to log in and is remembered", labels=["kind"])
        for kind, count in self.penalties.items():
            penalties.add_metric([kind], count)
        services = GaugeMetricFamily("ostiary_service_up", "Whether no operator has stopped it", labels=["service"])
        for name in ALL:
            services.add_metric([name], float(name not in self.stopped))
        yield from (penalties, services)
