"""Jobs: work on droplets that nobody waits for, and what became of it; kept for a day."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.refusal import NotFound, Refusal, Unavailable
from ostiary.store import fleet
from ostiary.store.fleet import Job
from ostiary.store.ports import Record

DEFECT = "internal"
"""Code of a job that failed for a reason that is no operator's."""
RETRY = 1.0
"""Seconds between two tries to keep what became of a job while the store is away."""
Work = Callable[[], Coroutine[Any, Any, object]]

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

    async def begin(self, call: Call, droplet: str, work: Work) -> Job:
        """Have `work` done, which `call` has asked for; the job as it is now. The audit knows of both."""
        now = self._clock()
        job = Job(self._entropy(8).hex(), call.operation, droplet, "queued", now)
        await self._store.put(job, None if call.trail.recorded else call.wanted(now))
        task = asyncio.get_running_loop().create_task(self._run(job, call, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def get(self, ident: str) -> Job:
        """Refuses NotFound `job.unknown`."""
        job = await self._store.get(ident)
        if job is None:
            raise NotFound("job.unknown", "Job not found")
        return job

    async def _run(self, job: Job, call: Call, work: Work) -> None:
        await self._keep(replace(job, state="running"))
        ended = await _outcome(job, work)
        now = self._clock()
        await self._keep(replace(ended, finished_at=now), call.record(now, ended.code) if ended.code else None)

    async def _keep(self, job: Job, record: Record | None = None) -> None:
        """Keep how it is, as soon as the store takes it: else it would seem to go on for ever."""
        while True:
            try:
                return await self._store.put(job, record)
            except Unavailable as refusal:
                log.warning("Job %s is %s, which cannot be kept yet: %s", job.id, job.state, refusal.message)
            await asyncio.sleep(RETRY)


async def _outcome(job: Job, work: Work) -> Job:
    """Do it; the job as it ended. A mistake of ours ends it too: who asks hears of it, and where to find more."""
    [failure] = await asyncio.gather(work(), return_exceptions=True)
    if isinstance(failure, Refusal):
        return replace(job, state="failed", error=failure.message, code=failure.code)
    if isinstance(failure, BaseException):
        _log(job, failure)
        text = f"Internal error; the log of Ostiary has it under job {job.id}"
        return replace(job, state="failed", error=text, code=DEFECT)
    return replace(job, state="done")


def _log(job: Job, defect: BaseException) -> None:
    """Say it on a line, with the innermost place."""
    frame = traceback.extract_tb(defect.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    pairs = {"job": job.id, "operation": job.operation, "droplet": job.droplet, "where": where}
    log.error("A job failed: %s: %s", type(defect).__name__, defect, extra={"pairs": pairs})


class OneJob(Struct, frozen=True):
    """Which job."""

    id: Annotated[str, Meta(description="as the change that began it has said")]


@operation("jobs.get", reads=True, permission="droplets:read")
async def get(control: Control, call: Call, params: OneJob) -> Job:
    """Say what has become of a change that nobody waited for."""
    return await control.jobs.get(params.id)
