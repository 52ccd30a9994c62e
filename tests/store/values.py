"""Values that the tests of the store keep."""

from msgspec.structs import replace

from ostiary.core.digest import digest
from ostiary.core.oauth import Application, Proof, Scope, Secret, TokenRequest
from ostiary.store.ports import ApplicationChange, Record
from ostiary.store.store import Store

NOW = 1_800_000_000_000_000
RECORD = Record(NOW, "user", "admin", "password", "127.0.0.1", "native", "scopes.create", "basic", "done", "r1")
BASIC = Scope("basic", "", 1800, 900, 900)
SECRET = Secret("sha256", digest("secret").hex())


def application(client_id: str = "ab01", **fields: object) -> Application:
    return replace(Application(client_id, "app", ("basic",), "http://app.example/", NOW), **fields)


def request(token: str, client_id: str = "ab01", **fields: object) -> TokenRequest:
    asked = TokenRequest(client_id, digest(token), NOW, ("client_credentials",), proof=Proof(digest("secret").hex()))
    return replace(asked, **fields)


async def furnish(store: Store, *client_ids: str) -> None:
    """The scope `basic`, and active applications that hold it."""
    await store.scopes.create(BASIC, RECORD)
    for client_id in client_ids or ("ab01",):
        await store.applications.create(application(client_id), SECRET, RECORD)
        await store.applications.update(client_id, ApplicationChange(active=True), RECORD)
