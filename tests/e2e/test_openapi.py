"""The OpenAPI document holds: schemathesis asks every operation for what it says, and for what it does not allow."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from tests.e2e.crowd import basic, each, request
from tests.e2e.house import URI, Backend, Node, configuration, serving

PASSWORD = "change-me-please-1"
ENDING = r"\.(stop|shutdown)$"
"""Operations after which there is nobody left to ask."""
NOT_OURS = "ignored_auth,positive_data_acceptance"
"""Wrong credentials are soon answered with 429, not 401; and texts have rules that a JSON schema cannot tell."""


async def schemathesis(place: Path, node: Node, **environment: str) -> tuple[int, str]:
    """Run it against every operation; its exit status and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{node.admin}/openapi.json", "--auth", f"admin:{PASSWORD}",
        "--phases", "coverage", "--continue-on-failure",
        "--generation-deterministic", "--request-timeout", "20", "--no-color",
        "--checks", "all", "--exclude-checks", NOT_OURS, "--exclude-operation-id-regex", ENDING, "--warnings", "off",
        cwd=place, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def known_things(node: Node) -> dict[str, str]:
    """A scope, an application and a token, by the names that operations give them."""
    scope = {"scope": "basic", "description": "b", "cc_expires_in": 900, "pass_expires_in": 900}
    await operate(node, "scopes.create", scope)
    made = await operate(node, "applications.create", {"name": "app", "scope": "basic", "redirect_uri": URI})
    await operate(node, "applications.update", {"client_id": made["client_id"], "active": True})
    issued = await operate(node, "tokens.issue", {"grant_type": "client_credentials", **made})
    return {"scope": "basic", "client_id": made["client_id"], "token": issued["access_token"]}


async def operate(node: Node, name: str, params: object) -> dict[str, str]:
    asked = request("POST", f"/operations/{name}", params, Authorization=basic("admin", PASSWORD))
    [answer] = await each(node.admin, [asked])
    assert answer.status == 200, answer.body
    return dict(answer.json)


@pytest.mark.timeout(600)
async def test_every_operation_does_what_its_document_says(place: Path, behind: Backend) -> None:
    (place / "ostiary.yaml").write_text(configuration(behind.port).replace("127.0.0.0/8", "192.0.2.0/24"))
    async with serving(place, "--workers", "1") as node:
        named = json.dumps(await known_things(node))
        here = {"SCHEMATHESIS_HOOKS": "tests.e2e.known", "PYTHONPATH": str(Path(__file__).parents[2])}
        status, said = await schemathesis(place, node, OSTIARY_KNOWN=named, **here)
        assert status == 0, said
        await operate(node, "config.current", {})
