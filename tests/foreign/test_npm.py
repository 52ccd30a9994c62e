"""oauth4webapi and openid-client, as npm has them, find the server, sign in, refresh, introspect and revoke."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.e2e.house import LIMIT, URI
from tests.foreign.conftest import Served
from tests.foreign.person import Person

HERE = Path(__file__).parent / "npm"
NODE, NPM = shutil.which("node"), shutil.which("npm")
INSTALLING = 100.0
"""Seconds that npm may take."""

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not (NODE and NPM), reason="needs node and npm (Debian: nodejs, npm)"),
]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clients with what they need, as the lock file says."""
    place = tmp_path_factory.mktemp("npm") / "clients"
    shutil.copytree(HERE, place, ignore=shutil.ignore_patterns("node_modules"))
    words = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run([str(NPM), *words], cwd=place, capture_output=True, text=True, timeout=INSTALLING)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"npm could not install the clients: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return place


async def said(place: Path, script: str, served: Served, client_id: str, secret: str, person: Person) -> object:
    """What the script saw."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(NODE), script, served.issuer, client_id, secret, URI, cwd=place, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        url = (await process.stdout.readline()).decode().strip()
        back = await asyncio.to_thread(person.allow, url, URI) if url else ""
        out, err = await process.communicate(f"{back}\n".encode())
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@pytest.mark.parametrize("confidential", [True, False])
@pytest.mark.parametrize("script", ["oauth4webapi.js", "openid-client.js"])
async def test_it_finds_the_server_and_gets_refreshes_and_revokes_tokens(
    installed: Path, served: Served, person: Person, script: str, confidential: bool
) -> None:
    client = (served.client_id, served.client_secret) if confidential else (served.public_id, "")
    assert await said(installed, script, served, *client, person) == {
        "issuer": served.issuer,
        **({"own": ["bearer", "basic", 200]} if confidential else {}),
        "user": ["bearer", "basic", 200],
        "refreshed": [True, 200],
        "told": [True, "admin", True],
        "revoked": [{"active": False}, "401 bearer invalid_token"],
        "again": "invalid_grant",
    }
