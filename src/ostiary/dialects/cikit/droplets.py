"""Droplets of a node without a driver: there are none, no name is known, and none can be made."""

from collections.abc import Awaitable, Callable

from ostiary.core.refusal import NotFound, Unavailable
from ostiary.dialects.cikit.asked import Asked, Row
from ostiary.dialects.cikit.words import No, error, say
from ostiary.dialects.message import Answer

ABSENT = "Error response from daemon: No such container: {name}"
ABSENT_AT_START = f"{ABSENT}\nError: failed to start containers: {{name}}"


async def list_(asked: Asked) -> Answer:
    """List them."""
    return say([])


async def add(asked: Asked) -> Answer:
    """Make one."""
    raise Unavailable("droplets.no_driver", "This node has no droplet driver", retry_after=60)


def absent(said: str = ABSENT) -> Callable[[Asked], Awaitable[Answer]]:
    """What is answered on a droplet that does not exist."""

    async def answer(asked: Asked) -> Answer:
        text = said.format(name=asked.item)
        return error(No(400, 900, text, No(404, 900, text)), strict=asked.settings.strict)

    return answer


async def job(asked: Asked) -> Answer:
    """Show a job."""
    raise NotFound("job.unknown", "Job not found")


ROWS = (
    Row("GET", "droplet/list", "", "droplets:read", list_),
    Row("POST", "droplet/add", "", "droplets:manage", add),
    Row("PATCH", "droplet/stop/:droplet", "", "droplets:manage", absent()),
    Row("PATCH", "droplet/start/:droplet", "", "droplets:manage", absent(ABSENT_AT_START)),
    Row("PATCH", "droplet/restart/:droplet", "", "droplets:manage", absent()),
    Row("DELETE", "droplet/delete/:droplet", "", "droplets:manage", absent()),
    Row("GET", "droplet/logs/:droplet", "", "droplets:logs", absent()),
    Row("GET", "droplet/stats/:droplet", "", "droplets:read", absent()),
    Row("GET", "job/:id", "", "droplets:read", job),
)
