"""Jobs: work on droplets that nobody waits for, and what became of it; kept for a day."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.refusal import NotFound, Refusal
from ostiary.store import fleet
from ostiary.store.fleet import Job

log = logging.getLogger("ostiary.droplets")


class Jobs:
    """Runs jobs and keeps their outcome. `clock` is Unix microseconds."""

    def __init__(self, store: fleet.Jobs, clock: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Tell those who ask of jobs that a predecessor left that these were interrupted."""
        await self._store.interrupt(self._clock())

    async def close(self) -> None:
        """End what still runs; it is interrupted."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def begin(self, operation: str, droplet: str, work: Callable[[], Coroutine[Any, Any, object]]) -> Job:
        """Have `work` done; the job as it is now."""
        job = Job(self._entropy(8).hex(), operation, droplet, "queued", self._clock())
        await self._store.put(job)
        task = asyncio.get_running_loop().create_task(self._run(job, work))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return job

    async def get(self, ident: str) -> Job:
        """Refuses NotFound `job.unknown`."""
        job = await self._store.get(ident)
        if job is None:
            raise NotFound("job.unknown", "Job not found")
        return job

    async def _run(self, job: Job, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        job = replace(job, state="running")
        await self._store.put(job)
        try:
            await work()
        except Refusal as refusal:
            job = replace(job, state="failed", error=refusal.message, code=refusal.code)
        else:
            job = replace(job, state="done")
        await self._store.put(replace(job, finished_at=self._clock()))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            log.error("A job failed", exc_info=failure)


class OneJob(Struct, frozen=True):
    """Which job."""

    id: Annotated[str, Meta(description="as the change that began it has said")]


@operation("jobs.get", reads=True, permission="droplets:read")
async def get(control: Control, call: Call, params: OneJob) -> Job:
    """Say what has become of a change that nobody waited for."""
    return await control.jobs.get(params.id)
