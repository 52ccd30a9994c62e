"""A worker process: the data plane behind one listening socket, and its end of the link."""

import asyncio
import os
import socket

import uvloop

from ostiary.gateway.worker import Worker
from ostiary.link.client import Client
from ostiary.node.child import until_told
from ostiary.node.log import open_log
from ostiary.supervisor import GATEWAY


def main(number: int, link: str) -> None:
    """Be worker `number`, linked with control at the Unix socket `link`, until told to end."""
    uvloop.run(run(number, link))


async def run(number: int, link: str) -> None:
    """Serve until told to end, then drain. The link stays until the last exchange has ended."""
    ending = asyncio.Event()
    until_told(ending.set)
    client = Client(number, os.getpid())
    worker = Worker(number, client)
    open_log(f"worker {number}", lambda: worker.settings.log_format)
    async with asyncio.TaskGroup() as tasks:
        linking = tasks.create_task(client.run(link, worker))
        serving = tasks.create_task(worker.serve([socket.socket(fileno=GATEWAY)]))
        await ending.wait()
        await worker.drain()
        serving.cancel()
        linking.cancel()
