"""Scopes, client applications, tokens, revisions, users, the change log and the audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def text(name: str, *, null: bool = False) -> "sa.Column[str]":
    """A column of text."""
    return sa.Column(name, sa.Text, nullable=null)


def number(name: str, *, null: bool = False) -> "sa.Column[int]":
    """A column of whole numbers: counts, truth values, Unix microseconds."""
    return sa.Column(name, sa.BigInteger, nullable=null)


def identity(name: str) -> "sa.Column[int]":
    """The number of a row: ascending, never given twice."""
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def table(name: str, *columns: "sa.schema.SchemaItem") -> None:
    """A table whose numbers are never given twice, in SQLite either."""
    op.create_table(name, *columns, sqlite_autoincrement=True)


def upgrade() -> None:
    """Create everything."""
    table("changes", identity("seq"), number("at"), text("kind"), text("subject"))
    table(
        "audit",
        identity("number"),
        number("at"),
        *(text(name) for name in ("kind", "name", "credential", "address", "surface", "operation", "target")),
        text("outcome"),
        text("request_id"),
    )
    op.create_table(
        "scopes",
        sa.Column("name", sa.Text, primary_key=True),
        text("description"),
        number("cc_expires_in"),
        number("pass_expires_in"),
        number("refresh_expires_in"),
    )
    _applications()
    _tokens()
    table(
        "revisions",
        identity("number"),
        number("at"),
        *(text(name) for name in ("author", "origin", "digest", "summary")),
        number("routes"),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    _users()


def _applications() -> None:
    table(
        "applications",
        identity("id"),
        sa.Column("client_id", sa.Text, nullable=False, unique=True),
        *(text(name) for name in ("name", "redirect_uri", "description", "details", "auth_method")),
        text("secret_kind"),
        text("secret"),
        number("registered"),
        number("active"),
        text("grant_types", null=True),
        number("rotate_refresh_tokens", null=True),
        number("limit_requests", null=True),
        number("limit_seconds", null=True),
    )
    op.create_table(
        "application_scopes",
        sa.Column("application", sa.BigInteger, sa.ForeignKey("applications.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("scope", sa.Text, sa.ForeignKey("scopes.name"), primary_key=True),
        number("position"),
    )
    op.create_index("application_scopes_scope", "application_scopes", ["scope"])


def _tokens() -> None:
    """No foreign key: the tokens of a deleted application are dead at once and go when they have expired."""
    table(
        "tokens",
        identity("id"),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        number("application"),
        *(text(name) for name in ("kind", "user_id", "scope", "grant_type", "details")),
        number("seq"),
        number("issued"),
        number("expires_in"),
        number("expires"),
        number("revoked", null=True),
    )
    op.create_index("tokens_application", "tokens", ["application", "id"])
    op.create_index("tokens_expires", "tokens", ["expires"])
    named = sa.text("user_id <> ''")
    op.create_index("tokens_user", "tokens", ["user_id"], sqlite_where=named, postgresql_where=named)


def _users() -> None:
    table(
        "users",
        identity("id"),
        text("name"),
        sa.Column("folded_name", sa.Text, nullable=False, unique=True),
        text("email"),
        sa.Column("folded_email", sa.Text, unique=True),
        text("role"),
        text("password"),
        number("active"),
        number("created"),
    )
    owner = sa.text("role = 'owner'")
    op.create_index("users_owner", "users", ["role"], unique=True, sqlite_where=owner, postgresql_where=owner)
