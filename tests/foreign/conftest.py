"""A node for clients that were not written here, with client applications of both kinds and a person."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from tests.e2e.house import URI, Backend, Node, backend, configuration, once, serving
from tests.foreign.person import Person


class Served(NamedTuple):
    """What a client is told when it is registered."""

    issuer: str
    client_id: str
    client_secret: str
    public_id: str
    """Of an application without a secret."""


@pytest.fixture
def insecure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients are told that this server needs no TLS."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture
def person() -> Iterator[Person]:
    """Who has not signed in yet."""
    each = Person()
    yield each
    each.leave()


async def public(node: Node) -> str:
    """The id of an active application without a secret."""
    wanted = {"name": "public", "scope": "basic", "redirect_uri": URI, "token_endpoint_auth_method": "none"}
    name = str((await once(node.admin, "POST", "/oauth20/applications", wanted)).json["client_id"])
    assert (await once(node.admin, "PUT", f"/oauth20/applications/{name}", {"status": 1})).status == 200
    return name


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served() -> AsyncIterator[Served]:
    """A node with two workers, shared by all."""
    with tempfile.TemporaryDirectory(prefix="ost-") as directory:
        place = Path(directory)
        async with backend() as behind:
            configured(place, behind)
            async with serving(place, "--workers", "2") as node:
                client = await node.client()
                yield Served(node.gateway, client["client_id"], client["client_secret"], await public(node))


def configured(place: Path, behind: Backend) -> None:
    """Write the configuration for that backend."""
    (place / "ostiary.yaml").write_text(configuration(behind.port))
