"""A user of a driver who is about to be killed: does what is asked, and says each time that it now begins.

victim KIND PLACE NODE SPEC STEP...     SPEC is JSON; a STEP is create, start, stop or remove
"""

import asyncio
import sys

import msgspec
from tests.drivers.houses import SECOND, House

from ostiary.drivers.port import Spec


async def main(kind: str, place: str, node: str, text: str, *steps: str) -> None:
    spec = msgspec.json.decode(text, type=Spec)
    driver = House(kind, place, node).driver()
    await driver.open()
    for step in steps:
        print(step, flush=True)
        if step == "create":
            await driver.create(spec)
        elif step == "start":
            await driver.start(spec.droplet)
        elif step == "stop":
            await driver.stop(spec.droplet, "TERM", 30 * SECOND)
        else:
            await driver.remove(spec.droplet)
    print("done", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
