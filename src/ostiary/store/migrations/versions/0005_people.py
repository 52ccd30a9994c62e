"""People: all that an account has, roles, credentials, settings that operators change, and a chained audit."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Widen `users`; make `roles`, `credentials`, `known_addresses` and `settings`; chain the audit."""
    _users()
    op.create_table(
        "roles",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("description", sa.Text, nullable=True),
        sa.Column("permissions", sa.Text, nullable=False),
    )
    _credentials()
    op.create_table(
        "known_addresses",
        sa.Column("user_number", sa.BigInteger, primary_key=True),
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
    )
    op.add_column("audit", sa.Column("link", sa.LargeBinary, nullable=True))
    for column in ("name", "target", "at"):
        op.create_index(f"audit_{column}", "audit", [column, "number"])


def _users() -> None:
    texts = (("labels", "[]"), ("attributes", "{}"), ("first_name", ""), ("last_name", ""))
    for name, default in texts:
        op.add_column("users", sa.Column(name, sa.Text, nullable=False, server_default=default))
    for name in ("ui_access", "last_login", "totp_step"):
        op.add_column("users", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("users", sa.Column("cut_off", sa.BigInteger, nullable=True))
    op.add_column("users", sa.Column("totp", sa.LargeBinary, nullable=True))
    op.create_index("users_name", "users", ["name"], unique=True)


def _credentials() -> None:
    """What people hold. No text of a token is kept, only its SHA-256 (of a session token: of its `jti`)."""
    op.create_table(
        "credentials",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("user_number", sa.BigInteger, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("family", sa.LargeBinary, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("seq", "issued", "expires", "authenticated", "used")
        ),
        sa.Column("ended", sa.BigInteger, nullable=True),
        sa.Column("spent", sa.BigInteger, nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("credentials_user", "credentials", ["user_number", "id"])
    op.create_index("credentials_family", "credentials", ["family"])
    op.create_index("credentials_expires", "credentials", ["expires"])
