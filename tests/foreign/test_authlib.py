"""Authlib signs in, uses, refreshes and revokes."""

import asyncio

import pytest
import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from tests.e2e.house import LIMIT, URI
from tests.foreign.conftest import Served
from tests.foreign.person import Person

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("insecure")]


def discovered(served: Served) -> dict[str, str]:
    """The metadata, which hold."""
    url = get_well_known_url(served.issuer, external=True)
    found: dict[str, str] = requests.get(url, timeout=LIMIT).json()
    AuthorizationServerMetadata(found).validate()
    assert found["issuer"] == served.issuer
    return found


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_client_gets_a_token_of_its_own(served: Served, method: str) -> None:
    def act() -> None:
        with OAuth2Session(served.client_id, served.client_secret, token_endpoint_auth_method=method) as session:
            server = discovered(served)
            token = session.fetch_token(server["token_endpoint"], grant_type="client_credentials", scope="basic")
            assert (token["token_type"], token["scope"]) == ("Bearer", "basic")
            assert session.get(f"{served.issuer}/closed").text == "hello"
            session.revoke_token(server["revocation_endpoint"], token["access_token"])
            assert session.get(f"{served.issuer}/closed").status_code == 401

    await asyncio.to_thread(act)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
async def test_a_user_lets_a_client_in_and_it_comes_back(served: Served, person: Person, method: str) -> None:
    def act() -> None:
        name, secret = (served.public_id, None) if method == "none" else (served.client_id, served.client_secret)
        with OAuth2Session(
            name,
            secret,
            token_endpoint_auth_method=method,
            redirect_uri=URI,
            scope="basic",
            code_challenge_method="S256",
        ) as session:
            server = discovered(served)
            verifier = generate_token(48)
            url, state = session.create_authorization_url(server["authorization_endpoint"], code_verifier=verifier)
            back = person.allow(url, URI)
            first = session.fetch_token(
                server["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
            )
            assert session.get(f"{served.issuer}/closed").text == "hello"
            second = session.refresh_token(server["token_endpoint"], first["refresh_token"])
            assert second["refresh_token"] != first["refresh_token"]
            assert session.get(f"{served.issuer}/closed").text == "hello"
            seen = session.introspect_token(server["introspection_endpoint"], second["access_token"]).json()
            assert (seen["active"], seen["username"], seen["client_id"]) == (True, "admin", name)
            with pytest.raises(OAuthError, match="invalid_grant"):
                session.refresh_token(server["token_endpoint"], first["refresh_token"])
            assert requests.get(f"{served.issuer}/closed", timeout=LIMIT).status_code == 401
            session.token = second
            assert session.get(f"{served.issuer}/closed").status_code == 401

    await asyncio.to_thread(act)


async def test_what_a_user_revokes_is_over_with_the_refresh_token(served: Served, person: Person) -> None:
    def act() -> None:
        with OAuth2Session(
            served.public_id, token_endpoint_auth_method="none", redirect_uri=URI, code_challenge_method="S256"
        ) as session:
            server = discovered(served)
            verifier = generate_token(48)
            url, state = session.create_authorization_url(server["authorization_endpoint"], code_verifier=verifier)
            back = person.allow(url, URI)
            token = session.fetch_token(
                server["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
            )
            hint = {"token_type_hint": "refresh_token"}
            session.revoke_token(server["revocation_endpoint"], token["refresh_token"], **hint)
            assert session.get(f"{served.issuer}/closed").status_code == 401
            seen = session.introspect_token(server["introspection_endpoint"], token["access_token"]).json()
            assert seen == {"active": False}

    await asyncio.to_thread(act)
