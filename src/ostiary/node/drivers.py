"""Drivers of droplets, by name: the only place that knows which there are. What one needs is imported with it."""

import hmac
import os
from pathlib import Path

from ostiary.core.configuration.settings import DropletSettings
from ostiary.drivers.port import Driver

MARK = b"ostiary node mark 1"
DIRECTORY = "droplets"


def driver_of(settings: DropletSettings, state_dir: Path, key: bytes) -> Driver:
    """The driver that the settings name. What it makes carries a mark of the node that has this `key`."""
    if settings.driver == "docker":
        from ostiary.drivers.docker.driver import DockerDriver

        mark = hmac.digest(key, MARK, "sha256").hex()[:12]
        return DockerDriver(settings.docker.socket, mark, settings.docker.pull)
    from ostiary.drivers.process.driver import ProcessDriver

    return ProcessDriver(state_dir / DIRECTORY, os.environ)
