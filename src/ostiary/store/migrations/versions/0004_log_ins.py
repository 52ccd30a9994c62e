"""Signing keys, the log-ins of browsers, and what users have allowed to client applications."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the three."""
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("purpose", "alg", "public")),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("retired", sa.BigInteger),
    )
    signs = sa.text("retired IS NULL")
    op.create_index(
        "signing_keys_purpose", "signing_keys", ["purpose"], unique=True, sqlite_where=signs, postgresql_where=signs
    )
    op.create_table(
        "browser_logins",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("account", sa.BigInteger),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("began", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_index("browser_logins_user", "browser_logins", ["user_id"])
    op.create_index("browser_logins_expires", "browser_logins", ["expires"])
    _consents()


def _consents() -> None:
    """They go with their application, and with their scope."""
    application = sa.ForeignKey("applications.id", ondelete="CASCADE")
    op.create_table(
        "consents",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("application", sa.BigInteger, application, primary_key=True),
        sa.Column("scope", sa.Text, sa.ForeignKey("scopes.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("consents_application", "consents", ["application"])
    op.create_index("consents_scope", "consents", ["scope"])
