"""What a droplet is to the engine: the container that is made of a Spec, and what is to be seen of one."""

from datetime import UTC, datetime
from typing import Any

from ostiary.drivers.port import Seen, Spec, Usage

NODE, DROPLET, NAME = "ostiary.node", "ostiary.droplet", "ostiary.name"
"""Labels: whose it is, which droplet, and what people call it."""
STATES = {"created": "created", "initialized": "created", "running": "running", "paused": "running"}
"""The engines' words; all others are ends. `initialized` is Podman's."""


def body(spec: Spec, node: str, log: str) -> dict[str, Any]:
    """The request that makes the container. Nothing in it is ever read by a shell.

    No ulimits: one of processes counts all of a user's on the machine, and Podman wants both or none. Any port may be
    listened on without rights: Docker has it so, Podman not.
    """
    limits = spec.limits
    made: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{key}={value}" for key, value in spec.env.items()],
        "Labels": {NODE: node, DROPLET: spec.droplet, NAME: spec.name},
        "User": spec.user,
        "ExposedPorts": {f"{inside}/tcp": {} for inside in spec.ports},
        "HostConfig": {
            "PortBindings": {
                f"{inside}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}] for inside, port in spec.ports.items()
            },
            "Binds": list(spec.mounts),
            "Memory": limits.memory,
            "MemorySwap": limits.memory,
            "NanoCpus": round(limits.cpu * 1_000_000_000),
            "PidsLimit": limits.pids or None,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "Privileged": False,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": log, "Config": {"max-size": "5m", "max-file": "2"}},
        },
    }
    if spec.command:
        made["Cmd"] = list(spec.command)
        made["Entrypoint"] = []
    return made


def moment(text: str) -> int | None:
    """Microseconds of an engine's time; None: it has not come (year 1)."""
    return nanoseconds(text) // 1000 if text and not text.startswith("0001-") else None


def nanoseconds(text: str) -> int:
    """Of a time as RFC 3339 writes it, with up to nine digits after the second."""
    whole, _, rest = text.partition(".")
    if not rest:
        return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    at = datetime.fromisoformat(whole + rest[len(digits) :])
    return int(at.astimezone(UTC).timestamp()) * 1_000_000_000 + int(digits.ljust(9, "0")[:9])


def seen(inspected: dict[str, Any]) -> Seen:
    """What an inspection shows."""
    state = inspected["State"]
    known = STATES.get(state["Status"], "exited")
    ended = known == "exited"
    return Seen(
        inspected["Config"]["Labels"][DROPLET],
        "created" if known == "created" else "running" if known == "running" else "exited",
        exit_code=state["ExitCode"] if ended else None,
        started=moment(state["StartedAt"]) if known != "created" else None,
        finished=moment(state["FinishedAt"]) if ended else None,
        out_of_memory=ended and bool(state.get("OOMKilled")),
    )


def usage(stats: dict[str, Any]) -> Usage:
    """What a container uses, as `docker stats` counts it: memory without what the kernel may drop."""
    processor, memory = stats["cpu_stats"]["cpu_usage"].get("total_usage", 0), stats["memory_stats"]
    kept = memory.get("stats", {})
    cache = kept.get("total_inactive_file", kept.get("inactive_file", 0))
    return Usage(
        cpu_seconds=processor / 1_000_000_000,
        memory_bytes=max(0, memory.get("usage", 0) - cache),
        pids=stats["pids_stats"].get("current", 0),
    )
