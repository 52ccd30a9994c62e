"""What apps and all that belongs to them look like."""

from collections.abc import Iterable
from datetime import UTC, datetime

from ostiary.control.apps import AppShown, Build, Config, Container, LogLine
from ostiary.core.snapshot import SECOND

STATES = {
    "created": "created", "starting": "created", "running": "up", "stopping": "down", "exited": "down",
    "crashed": "crashed", "failed": "error", "unknown": "error",
}  # fmt: skip
"""Of a droplet -> of a container."""


def app_object(app: AppShown) -> dict[str, object]:
    """An app."""
    return {
        "uuid": app.uuid, "id": app.id, "owner": app.owner, "url": app.url, "structure": app.structure,
        "created": time(app.created), "updated": time(app.updated),
    }  # fmt: skip


def config_object(config: Config) -> dict[str, object]:
    """An environment; the owner is who set it."""
    return {
        "uuid": config.uuid, "app": config.app, "owner": config.owner, "values": config.values, "memory": {},
        "cpu": {}, "tags": {}, "created": time(config.created), "updated": time(config.created),
    }  # fmt: skip


def build_object(build: Build) -> dict[str, object]:
    """What an app was told to run."""
    return {
        "owner": build.owner, "app": build.app, "image": build.image, "sha": "", "procfile": {}, "dockerfile": "",
        "created": time(build.created), "updated": time(build.created), "uuid": build.uuid,
    }  # fmt: skip


def container_object(container: Container) -> dict[str, object]:
    """A droplet of an app."""
    return {
        "owner": container.owner, "app": container.app, "release": f"v{container.release}", "type": container.type,
        "num": container.number, "state": STATES[container.state], "created": time(container.created),
        "updated": time(container.updated), "uuid": container.uuid,
    }  # fmt: skip


def log_text(app: str, lines: Iterable[LogLine]) -> str:
    """A log as one text, each line of which is ended: the client drops what follows the last end."""
    return "".join(
        f"{time(line.at)} {'ostiary' if line.source == 'api' else app}[{line.source}]: {line.text}\n" for line in lines
    )


def time(at: int) -> str:
    """Unix microseconds as Deis writes the times of apps."""
    return f"{datetime.fromtimestamp(at // SECOND, UTC):%Y-%m-%dT%H:%M:%S}UTC"
