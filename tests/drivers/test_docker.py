"""Droplets as containers: what depends on the engine."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.drivers.conftest import NODES
from tests.drivers.engine import IMAGE, Engine, gone
from tests.drivers.houses import SECOND, House, begun, ended, lines, listening, mark, sleepers, until

from ostiary.core.refusal import Invalid, Unavailable
from ostiary.drivers.docker.container import moment, nanoseconds
from ostiary.drivers.docker.driver import DockerDriver, Pull, tagged
from ostiary.drivers.docker.engine import refused
from ostiary.drivers.docker.logs import frames
from ostiary.drivers.port import Limits, Spec


@pytest.fixture
def house(dockerd: Engine) -> House:
    return House("docker", str(dockerd.socket), f"node{next(NODES)}")


@pytest.fixture
async def driver(house: House) -> AsyncIterator[DockerDriver]:
    opened = DockerDriver(house.place, house.node, "never")
    await opened.open()
    yield opened
    for each in await opened.look():
        await opened.remove(each)
    await opened.close(stop=True)


@pytest.fixture
async def engine(dockerd: Engine) -> AsyncIterator[httpx2.AsyncClient]:
    """The engine as somebody else uses it."""
    transport = httpx2.AsyncHTTPTransport(uds=str(dockerd.socket))
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine/v1.41", timeout=30) as client:
        yield client


async def inspected(engine: httpx2.AsyncClient, house: House, spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = (await engine.get(f"/containers/ostiary-{house.node}-{spec.droplet}/json")).json()
    return found


async def test_a_container_has_no_rights_but_what_its_template_gives(
    house: House, driver: DockerDriver, engine: httpx2.AsyncClient
) -> None:
    spec = msgspec.structs.replace(
        house.script("true", name="a name", limits=Limits(memory=64 * 1024 * 1024, cpu=0.5, pids=20)),
        mounts=("/tmp:/data:ro",), user="65534", ports={80: 20_997},
    )  # fmt: skip
    await driver.create(spec)
    found = await inspected(engine, house, spec)
    host = found["HostConfig"]
    assert (host["Privileged"], host["CapAdd"], host["CapDrop"]) == (False, None, ["ALL"])
    assert (host["SecurityOpt"], host["RestartPolicy"]["Name"]) == (["no-new-privileges"], "no")
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        67108864,
        67108864,
        5 * 10**8,
        20,
    )
    assert (host["Binds"], host["Ulimits"], found["Config"]["User"]) == (["/tmp:/data:ro"], None, "65534")
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20997"}]}
    assert found["Config"]["Labels"] == {
        "ostiary.node": house.node, "ostiary.droplet": spec.droplet, "ostiary.name": "a name",
    }  # fmt: skip


async def test_a_port_is_published_on_loopback_only_and_freed_by_remove(house: House, driver: DockerDriver) -> None:
    spec = msgspec.structs.replace(
        house.script("mkdir /tmp/w; echo hello > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"),
        ports={8080: 20_998},
    )
    await begun(driver, spec)
    async with httpx2.AsyncClient() as client:
        assert await answer(client, "http://127.0.0.1:20998/") == "hello\n"
    again = msgspec.structs.replace(house.script("true"), ports={8080: 20_998})
    await driver.create(again)
    with pytest.raises(Unavailable) as refusal:
        await driver.start(again.droplet)
    assert refusal.value.code == "port.taken"
    await driver.remove(spec.droplet)
    await driver.start(again.droplet)
    assert await ended(driver, again) == 0


async def answer(client: httpx2.AsyncClient, url: str) -> str:
    """What is answered there, once something is."""
    async with asyncio.timeout(30):
        while True:
            try:
                return (await client.get(url)).text
            except httpx2.TransportError:
                await asyncio.sleep(0.02)


async def test_foreign_containers_and_those_of_other_nodes_are_not_ours(
    house: House, driver: DockerDriver, engine: httpx2.AsyncClient
) -> None:
    other = DockerDriver(house.place, f"{house.node}-other", "never")
    await other.open()
    spec = house.script(f"exec sleep {mark()}")
    await begun(other, spec)
    made = {"Image": IMAGE, "Cmd": ["sleep", "5"], "Labels": {"ostiary.node": house.node}}
    foreign = (await engine.post("/containers/create", json=made)).json()["Id"]
    assert await driver.look() == {}
    await driver.remove(spec.droplet)
    ours = DockerDriver(house.place, house.node)
    await ours.open()
    await ours.close(stop=True)
    assert (await other.look())[spec.droplet].state == "running"
    assert (await engine.get(f"/containers/{foreign}/json")).status_code == 200
    await engine.delete(f"/containers/{foreign}?force=true")
    await other.remove(spec.droplet)
    await other.close(stop=False)


async def test_a_container_that_somebody_removes_is_told_and_gone(
    house: House, driver: DockerDriver, engine: httpx2.AsyncClient
) -> None:
    spec = await begun(driver, house.script(f"exec sleep {mark()}"))
    async with asyncio.timeout(60), listening(driver.watch()) as heard:
        await engine.delete(f"/containers/ostiary-{house.node}-{spec.droplet}?force=true")
        told = [(await heard.get()).state]
        while told[-1] != "gone":
            told.append((await heard.get()).state)
    assert told == ["exited", "gone"]
    assert await driver.look() == {}


@pytest.mark.parametrize("image", ["no-such-image:1", "../containers/json", "UPPER case", "", "a/../b", "x?y"])
async def test_an_unknown_image_is_refused_by_its_name(house: House, driver: DockerDriver, image: str) -> None:
    pulls: tuple[Pull, ...] = ("never", "missing", "always")
    for pull in pulls:
        driver.pull = pull
        with pytest.raises(Invalid) as refusal:
            await driver.create(msgspec.structs.replace(house.script("true"), image=image))
        assert (refusal.value.code, refusal.value.message) == ("image.unknown", f"No such image: {image}")
    assert await driver.look() == {}


async def test_images_are_listed(driver: DockerDriver) -> None:
    assert [each.names for each in await driver.images()] == [(IMAGE,)]


async def test_the_images_of_an_engine_that_hangs_are_not_waited_for(tmp_path: Path) -> None:
    place = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(place)
        deaf.listen()
        driver = DockerDriver(place, "node")
        driver.engine.silence = 0.05
        with pytest.raises(Unavailable) as refusal:
            await driver.images()
        await driver.close(stop=False)
    assert (refusal.value.code, refusal.value.message) == (
        "driver.unavailable", f"The container engine at {place} does not answer",
    )  # fmt: skip


async def test_an_engine_that_died_is_told_and_its_containers_are_adopted_when_it_is_back(
    house: House, driver: DockerDriver, dockerd: Engine
) -> None:
    each = mark()
    spec = await begun(driver, house.script(f"echo ready; exec sleep {each}"))
    await lines(driver, spec, b"ready")
    before = await driver.look()
    news = asyncio.create_task(news_of(driver))
    await asyncio.sleep(0.05)
    await gone(dockerd)
    for asked in (news, driver.look(), driver.start(spec.droplet), driver.create(house.script("true")), driver.open()):
        with pytest.raises(Unavailable) as refusal:
            await asked
        assert refusal.value.code == "driver.unavailable"
    assert len(sleepers(each)) == 1
    await asyncio.to_thread(dockerd.start)
    await driver.open()
    assert await driver.look() == before
    assert await driver.stop(spec.droplet, "KILL", 30 * SECOND) is False
    await until(lambda: sleepers(each) == set())


async def news_of(driver: DockerDriver) -> None:
    async for _ in driver.watch():
        pass


async def test_an_unknown_user_is_refused(house: House, driver: DockerDriver) -> None:
    spec = msgspec.structs.replace(house.script("true"), user="no-such-user")
    await driver.create(spec)
    with pytest.raises(Invalid) as refusal:
        await driver.start(spec.droplet)
    assert refusal.value.code == "user.unknown"


# Decisions


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (404, "No such container: x", "droplet.gone"),
        (500, "container x does not exist in database: no such container", "droplet.gone"),
        (409, "Conflict. The container name is already in use", "engine.busy"),
        (500, "write /x: no space left on device", "disk.full"),
        (500, "driver failed: Bind for 127.0.0.1:80 failed: port is already allocated", "port.taken"),
        (500, "listen tcp4 127.0.0.1:80: bind: address already in use", "port.taken"),
        (400, 'OCI: exec: "x": executable file not found in $PATH: unknown', "command.unknown"),
        (400, 'OCI: exec: "/x": stat /x: no such file or directory: unknown', "command.unknown"),
        (400, 'OCI: exec: "/x": permission denied: unknown', "command.refused"),
        (500, "unable to find user x: no matching entries in passwd file", "user.unknown"),
        (500, "anything else", "driver.failed"),
    ],
)
def test_an_error_of_the_engine_has_a_meaning(status: int, message: str, code: str) -> None:
    refusal = refused(status, json.dumps({"message": message}).encode())
    assert refusal.code == code
    assert message in refusal.message


def test_an_error_that_is_not_json_is_told_as_it_is() -> None:
    assert refused(502, b"<html>").message == "The engine says: <html>"


def test_times_of_engines_are_read_to_the_nanosecond() -> None:
    assert nanoseconds("1970-01-01T00:00:01.000000002Z") == 1_000_000_002
    assert nanoseconds("1970-01-01T01:00:01.5+01:00") == 1_500_000_000
    assert nanoseconds("1970-01-01T00:00:01Z") == 1_000_000_000
    assert moment("1970-01-01T00:00:01.000002999Z") == 1_000_002
    assert moment("0001-01-01T00:00:00Z") is None


def test_a_name_without_a_tag_gets_one() -> None:
    assert [tagged(each) for each in ("a", "a:1", "host:5000/a", "host:5000/a:1", "a@sha256:0")] == [
        "a:latest", "a:1", "host:5000/a:latest", "host:5000/a:1", "a@sha256:0",
    ]  # fmt: skip


async def test_frames_are_found_wherever_the_stream_is_cut() -> None:
    data = b"".join(
        bytes([kind, 0, 0, 0]) + len(text).to_bytes(4) + text for kind, text in ((1, b"ab"), (2, b""), (1, b"c"))
    )

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    for size in range(1, len(data) + 1):
        assert [each async for each in frames(chunks(size))] == [(1, b"ab"), (2, b""), (1, b"c")]
