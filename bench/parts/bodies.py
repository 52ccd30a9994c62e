"""A large body each way: by how much a worker grows, also when the receiver stalls, and how fast it is."""

from collections.abc import Callable
from functools import partial
from statistics import median

from bench.measure import forget_peak, resident, resident_peak
from bench.ostiary import Settings
from bench.peers import NGINX, NGINX_BULK, Running
from bench.report import Figure, Outcome
from bench.stage import Stage, say
from bench.transfer import STALLED, Transfer, download, upload

WAYS: dict[str, Callable[[int, int, float], Transfer]] = {"upload": upload, "download": download}


def settings(backend: int) -> Settings:
    """One route for each way."""
    return {
        "upstreams": {"backend": {"servers": [f"127.0.0.1:{backend}"]}},
        "routes": [
            {"match": "PUT /bulk", "upstream": "backend"},
            {"match": "GET /bulk/{size}", "to": "/bulk/{size}", "upstream": "backend"},
        ],
    }


def growth(worker: int, transfer: Callable[[], Transfer]) -> int:
    """Bytes by which the worker was larger, at its largest, than before the transfer."""
    forget_peak(worker)
    before = resident(worker)
    transfer()
    return max(0, resident_peak(worker) - before)


def speeds(stage: Stage, programs: list[Running], way: str) -> dict[str, list[float]]:
    """MB a second, taking turns."""
    found: dict[str, list[float]] = {program.name: [] for program in programs}
    for number in range(2 if stage.scale.quick else 3):
        for program in programs if number % 2 == 0 else reversed(programs):
            found[program.name].append(WAYS[way](program.port, stage.scale.body, 0).speed)
    return found


def measure(stage: Stage) -> Outcome:
    """Growth and speed of both ways."""
    figures, table = [], []
    size = stage.scale.body
    with (
        stage.backend("bulk") as backend,
        stage.ostiary("ostiary", settings(backend)) as ostiary,
        stage.peers([NGINX_BULK], backend) as (peers, absent),
    ):
        worker = ostiary.worker()
        for way, transfer in WAYS.items():
            transfer(ostiary.gateway, 1 << 20, 0)
            grown = [growth(worker, partial(transfer, ostiary.gateway, size, stall)) for stall in (0.0, STALLED)]
            say(f"  {way}: grows by {max(grown) / (1 << 20):.1f} MiB")
            fast = speeds(stage, [ostiary.running(), *peers], way)
            figures += figures_of(way, size, max(grown), fast, absent.get(NGINX.name, ""))
            table.append([way, *(f"{each / (1 << 20):.1f}" for each in grown), *_shown(fast, absent)])
    columns = ["way", "grows by MiB", "with a stalled receiver", "Ostiary MB/s", "nginx MB/s"]
    return Outcome(f"Bodies of {size >> 20} MiB", figures, columns, table)


def figures_of(way: str, size: int, grown: int, fast: dict[str, list[float]], absent: str) -> list[Figure]:
    """Growth, and speed beside nginx."""
    ratio = median(fast["Ostiary"]) / median(fast[NGINX.name]) if NGINX.name in fast else None
    body = f"{way} of {size >> 20} MiB"
    return [
        Figure(f"bodies_{way}_growth_mib", grown / (1 << 20), 16, f"{body}: growth of the worker, MiB"),
        Figure(f"bodies_{way}_speed_vs_nginx", ratio, None, f"{body}: MB/s, beside nginx (more is better)", absent),
    ]


def _shown(fast: dict[str, list[float]], absent: dict[str, str]) -> list[str]:
    return [f"{median(fast[name]):,.0f}" if name in fast else absent[name] for name in ("Ostiary", NGINX.name)]
