"""requests-oauthlib signs in, uses, refreshes and revokes."""

import asyncio
from urllib.parse import urlencode

import pytest
from oauthlib.oauth2 import BackendApplicationClient, InvalidGrantError, MismatchingStateError, WebApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session
from tests.e2e.house import URI
from tests.foreign.conftest import Served
from tests.foreign.person import Person

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("insecure")]


async def test_a_client_gets_a_token_of_its_own(served: Served) -> None:
    def act() -> None:
        with OAuth2Session(client=BackendApplicationClient(served.client_id), scope=["basic"]) as session:
            token = session.fetch_token(
                f"{served.issuer}/oauth20/token", client_id=served.client_id, client_secret=served.client_secret
            )
            assert token["scope"] == ["basic"]
            assert session.get(f"{served.issuer}/closed").text == "hello"

    await asyncio.to_thread(act)


async def test_a_user_lets_a_client_in_and_it_comes_back(served: Served, person: Person) -> None:
    def act() -> None:
        endpoint = f"{served.issuer}/oauth20"
        basic = HTTPBasicAuth(served.client_id, served.client_secret)
        with OAuth2Session(served.client_id, redirect_uri=URI, scope=["basic"], pkce="S256") as session:
            url, _ = session.authorization_url(f"{endpoint}/authorize")
            back = person.allow(url, URI)
            first = session.fetch_token(f"{endpoint}/token", authorization_response=back, auth=basic)
            assert session.get(f"{served.issuer}/closed").text == "hello"
            second = session.refresh_token(f"{endpoint}/token", auth=basic)
            assert second["access_token"] != first["access_token"]
            assert session.get(f"{served.issuer}/closed").text == "hello"
            url, headers, body = WebApplicationClient(served.client_id).prepare_token_revocation_request(
                f"{endpoint}/revoke", second["refresh_token"], "refresh_token"
            )
            answer = session.request("POST", url, body, headers, withhold_token=True, auth=basic)
            assert (answer.status_code, answer.text) == (200, "")
            assert session.get(f"{served.issuer}/closed").status_code == 401
            with pytest.raises(InvalidGrantError):
                session.refresh_token(f"{endpoint}/token", auth=basic)

    await asyncio.to_thread(act)


async def test_an_answer_for_somebody_else_is_not_taken(served: Served, person: Person) -> None:
    def act() -> None:
        with OAuth2Session(served.client_id, redirect_uri=URI, scope=["basic"], pkce="S256") as session:
            url, _ = session.authorization_url(f"{served.issuer}/oauth20/authorize")
            person.allow(url, URI)
            forged = f"{URI}?{urlencode({'code': 'ab', 'state': 'another'})}"
            with pytest.raises(MismatchingStateError):
                session.fetch_token(f"{served.issuer}/oauth20/token", authorization_response=forged)

    await asyncio.to_thread(act)
