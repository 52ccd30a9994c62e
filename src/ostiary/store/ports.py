"""What is kept, as the operations see it: one small port a subject. The SQL behind them is named in node.py only.

Every method that changes something commits before it returns: the change, its entry in the change log and, where one
is passed, its audit record are one transaction. All of them raise Unavailable `store.unavailable` when the store
cannot be reached; then nothing was changed. Times are Unix microseconds.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from msgspec import UNSET, Struct, UnsetType

from ostiary.core.oauth import Application, Client, CodeRequest, RateLimit, Scope, Secret, TokenRequest
from ostiary.core.refusal import Invalid

T = TypeVar("T")


class Changed(NamedTuple, Generic[T]):
    """What a change left, and its number in the change log (0: there was nothing to change)."""

    seq: int
    value: T


class Record(Struct, frozen=True):
    """One line of the audit: who, from where, over which surface, did what, to what, with which outcome."""

    at: int
    kind: str
    """Kind of the principal: `user`, `application`, `network`, `node`, `nobody`."""
    name: str
    credential: str
    address: str
    surface: str
    operation: str
    target: str
    outcome: str
    """`done`, or the code of the refusal."""
    request_id: str
    number: int = 0
    """Given by the store, ascending."""


class RecordFilter(Struct, frozen=True):
    """Which audit records: empty texts and None match all; `before` is a number (0: from the newest on)."""

    operation: str = ""
    name: str = ""
    outcome: str = ""
    target: str = ""
    surface: str = ""
    address: str = ""
    since: int = 0
    until: int = 0
    before: int = 0
    limit: int = 100


class ScopeChange(Struct, frozen=True):
    """What an update of a scope sets; UNSET fields stay as they are."""

    description: str | UnsetType = UNSET
    cc_expires_in: int | UnsetType = UNSET
    pass_expires_in: int | UnsetType = UNSET
    refresh_expires_in: int | UnsetType = UNSET


class ApplicationChange(Struct, frozen=True):
    """What an update of an application sets; UNSET fields stay as they are."""

    scopes: tuple[str, ...] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    details: dict[str, str] | UnsetType = UNSET
    grant_types: tuple[str, ...] | UnsetType = UNSET
    rotate_refresh_tokens: bool | UnsetType = UNSET
    rate_limit: RateLimit | UnsetType = UNSET


class Token(Struct, frozen=True):
    """A kept token with what its client application is now."""

    number: int
    digest: bytes
    kind: str
    """`access`, `refresh` or `code`."""
    client_id: str
    user: str
    scopes: tuple[str, ...]
    grant: str
    """How its family began."""
    issued: int
    expires_in: int
    """Seconds, fixed at issue."""
    expires: int
    details: dict[str, str]
    revoked: bool
    active: bool
    """Whether the client application is active."""
    application_details: dict[str, str]
    rate_limit: RateLimit | None = None
    family: bytes = b""
    """Name of all that came from the same grant; empty: it stands alone."""
    refresh: bytes = b""
    """Digest of the refresh token that was handed out with it; empty: none was."""
    refresh_expires_in: int = 0
    """Seconds; of that refresh token, as it was said at issue."""
    sealed: bytes = b""
    """The text of that refresh token, sealed for the holder of this token."""
    spent: bool = False
    """Used (a code), or replaced (a refresh token)."""

    def live(self, now: int) -> bool:
        """Whether it can still be used at `now`."""
        return self.active and not self.revoked and not self.spent and self.expires >= now


class TokenFilter(Struct, frozen=True):
    """Which live tokens, oldest first: empty texts match all; `after` is a token's number."""

    now: int
    client_id: str = ""
    user: str = ""
    after: int = 0
    limit: int = 100


class Issued(Struct, frozen=True):
    """What was issued, for the answer."""

    client_id: str
    scopes: tuple[str, ...]
    issued: int
    expires_in: int
    refresh: bytes = b""
    """Digest of the refresh token that goes with it; empty: none."""
    refresh_expires_in: int = 0
    """Seconds."""
    seq: int = 0
    """Number of the change that ended the access token before it."""
    replaced: tuple[bytes, ...] = ()
    """Digests of access tokens that it ended."""


class Ended(Invalid):
    """A spent code or refresh token was shown again, and so its family was ended: that has to reach the workers."""

    def __init__(self, code: str, message: str, seq: int, digests: tuple[bytes, ...]) -> None:
        super().__init__(code, message)
        self.seq = seq
        self.digests = digests


class Ending(NamedTuple):
    """What a revocation did."""

    seq: int
    """Number of the change; 0: there was nothing to revoke, or no more."""
    tokens: int
    """How many were revoked now, of every kind."""
    digests: tuple[bytes, ...]
    """Access tokens that no worker may admit, those that were revoked before too."""
    foreign: bool = False
    """The token is another client application's."""


class Revision(Struct, frozen=True):
    """A numbered configuration. `digest` (hex) is of its sources; `origin` says where it came from."""

    number: int
    at: int
    author: str
    origin: str
    """`start`, `reload`, `rollback 3`."""
    digest: str
    routes: int = 0
    summary: str = ""
    """A sentence for a person, without secrets."""


class SigningKey(Struct, frozen=True):
    """A key that signs, or has signed and still verifies."""

    kid: str
    purpose: str
    """What it signs: `oauth`, ..."""
    alg: str
    public: str
    """Its public half as a JWK."""
    sealed: bytes
    """Its private half, sealed."""
    created: int
    retired: int = 0
    """When another took its place; 0: it signs."""


class BrowserLogin(Struct, frozen=True):
    """A user's log-in in a browser, for the authorization page alone."""

    user: str
    details: dict[str, str]
    """What the authenticator says of the user."""
    began: int
    expires: int
    ours: bool = True
    """The user is one of Ostiary's, not a plug-in's."""


class LoggedChange(Struct, frozen=True):
    """An entry of the change log; numbers are ascending without gaps."""

    seq: int
    at: int
    kind: str
    """`scope.created`, `application.changed`, `token.revoked`, `user.revoked`, ..."""
    subject: str


class Copied(Struct, frozen=True):
    """A backup that was written."""

    path: str
    created: str
    """RFC 3339."""
    engine: str
    schema: str
    """Version of the schema."""
    rows: dict[str, int]
    """Of each table."""
    bytes: int
    sha256: str
    """Of what the file holds, before compression."""


class Counted(Struct, frozen=True):
    """A table as a check found it."""

    rows: int
    bytes: int | None
    """With its indexes; None where the engine does not say."""


class Checked(Struct, frozen=True):
    """What a check found."""

    valid: bool
    engine: str
    schema: str
    wrong: list[str]
    """A sentence for each thing."""
    bytes: int
    """Of the whole database."""
    tables: dict[str, Counted]


class Replay(Struct, frozen=True):
    """A request that came with a key of its own: its digest, and its answer once it has one."""

    request: bytes
    answer: bytes | None


class Scopes(Protocol):
    async def page(self, limit: int, after: str = "") -> list[Scope]:
        """By name, those after `after`."""

    async def named(self, names: Sequence[str]) -> dict[str, Scope]:
        """Those of `names` that exist."""

    async def create(self, scope: Scope, record: Record) -> int:
        """Number of the change. Refuses Conflict `scope.exists`."""

    async def update(self, name: str, change: ScopeChange, record: Record) -> Changed[Scope]:
        """The scope as it is now. Refuses NotFound `scope.unknown`."""

    async def delete(self, name: str, record: Record) -> int:
        """Number of the change. Refuses NotFound `scope.unknown`, Conflict `scope.in_use`."""


class Applications(Protocol):
    async def page(self, active: bool | None, limit: int, after: str = "") -> list[Application]:
        """Registered last first, those registered before the application `after`."""

    async def get(self, client_id: str) -> Application | None:
        """The application of that id."""

    async def client(self, client_id: str) -> Client | None:
        """The same, with what is kept of its secret."""

    async def sealed(self, client_ids: Sequence[str]) -> dict[str, bytes]:
        """The sealed secrets of those that have one."""

    async def create(
        self, application: Application, secret: Secret, record: Record, sealed: bytes | None = None
    ) -> int:
        """Number of the change. Refuses Invalid `scope.not_known`, then Conflict `application.exists`."""

    async def update(self, client_id: str, change: ApplicationChange, record: Record) -> Changed[Application]:
        """The application as it is now. Refuses NotFound `application.unknown`, then Invalid `scope.not_known`."""

    async def delete(self, client_id: str, record: Record) -> int:
        """Number of the change; no token of it passes ever again. Refuses NotFound `application.unknown`."""

    async def set_secret(self, client_id: str, secret: Secret, record: Record, sealed: bytes | None = None) -> int:
        """Number of the change. Refuses NotFound `application.unknown`."""


class Tokens(Protocol):
    async def weigh(self, request: TokenRequest) -> None:
        """Refuse what `issue` would refuse now, as far as it does not rest on a code or a refresh token."""

    async def issue(self, request: TokenRequest, record: Record) -> Issued:
        """Decide (core.oauth.decide), use up and keep in one transaction; many share a commit.

        Raises Ended where a spent code or refresh token was shown.
        """

    async def issue_code(self, request: CodeRequest, record: Record) -> str:
        """Decide (core.oauth.decide_code) and keep; the redirect_uri that the code is for."""

    async def get(self, digest: bytes) -> Token | None:
        """Whatever its state, while its record is kept."""

    async def live(self, digests: Sequence[bytes], now: int) -> dict[bytes, Token]:
        """Those that pass at `now`: access tokens, unexpired, unrevoked, of active applications. One statement."""

    async def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Those that are kept, whatever their state."""

    async def page(self, which: TokenFilter) -> list[Token]:
        """Live tokens, those of inactive applications too, oldest first. Refuses NotFound `application.unknown`."""

    async def revoke(self, digest: bytes, client_id: str, at: int, record: Record, *, refresh: bool = False) -> Ending:
        """Revoke an access token (with `refresh`: or a refresh token) of `client_id` (empty: any) with its family.

        Refuses NotFound `application.unknown` where `client_id` names none.
        """

    async def revoke_user(self, user: str, at: int, record: Record) -> Changed[int]:
        """How many tokens and codes of the user were revoked now. `user` is compared exactly and not empty.

        The user's browsers are logged out, and what the user has allowed is forgotten.
        """


class Consents(Protocol):
    """What users have allowed to client applications, and the log-ins of browsers in which they do."""

    async def sign_in(self, digest: bytes, login: BrowserLogin, instead: bytes, record: Record) -> None:
        """Begin a log-in and end `instead`. Refuses Forbidden `login.inactive` for a user who may not come in."""

    async def login(self, digest: bytes, now: int) -> BrowserLogin | None:
        """The log-in of that digest: unexpired, not ended, and the user still there and active."""

    async def sign_out(self, digest: bytes, record: Record) -> None:
        """End a log-in, if there is one."""

    async def allowed(self, user: str, client_id: str) -> frozenset[str]:
        """The scopes that the user has allowed to the application."""

    async def authorize(self, request: CodeRequest, login: bytes, allow: bool, record: Record) -> str:
        """Decide (core.oauth.decide_code) and keep a code; the redirect_uri that it is for.

        With `allow` the scopes are allowed from now on. Refuses Unauthenticated `login.ended`, Forbidden
        `consent.required` where they are not and have not been.
        """


class Keys(Protocol):
    async def kept(self, purpose: str, since: int) -> list[SigningKey]:
        """The key that signs, then those retired after `since`, the last one first."""

    async def put(self, key: SigningKey, since: int, record: Record, *, rotate: bool) -> bool:
        """Have `key` sign, if none does or (`rotate`, or the one that does has another alg) in place of that one.

        Whether it does; False: another was first. Forgets those retired up to `since`.
        """


class Revisions(Protocol):
    async def keep(self, revision: Revision, sealed: bytes, record: Record | None = None) -> int:
        """Keep the (sealed) sources of a configuration under the next number and return it (`number` is ignored)."""

    async def page(self, limit: int, before: int = 0) -> list[Revision]:
        """Newest first, those below `before` (0: from the newest)."""

    async def get(self, number: int) -> tuple[Revision, bytes] | None:
        """With its sealed sources."""

    async def newest(self) -> tuple[Revision, bytes] | None:
        """What serves, or served last."""


class Audit(Protocol):
    async def append(self, *records: Record) -> None:
        """Keep more records, all of them or none."""

    async def page(self, which: RecordFilter) -> list[Record]:
        """Newest first."""

    async def chain(self, after: int, limit: int) -> list[tuple[Record, bytes, bool]]:
        """In order, those after the number `after`: each with its link, and whether that fits the one before."""


class Changes(Protocol):
    async def after(self, seq: int, limit: int) -> list[LoggedChange]:
        """In order."""

    async def newest(self) -> int:
        """The last number given, 0 for none."""


class Replays(Protocol):
    async def begin(self, caller: str, key: str, request: bytes, now: int) -> Replay | None:
        """Note that a request begins; or what is known of the one that `caller` sent with this key within the hour."""

    async def finish(self, caller: str, key: str, answer: bytes) -> None:
        """Keep the answer to what began."""


class Keeping(Protocol):
    async def backup(self, name: str) -> Copied:
        """Write a file of this name (empty: one made of the time) beside the store's keys.

        Refuses Conflict `backup.exists`, Unavailable `backup.unwritable`.
        """

    async def check(self) -> Checked:
        """Whether the store is whole."""
