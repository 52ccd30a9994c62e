"""Codes, refresh tokens and the families that they make with access tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Widen `tokens`: it holds access tokens, refresh tokens and codes, told apart by `kind`."""
    for name, kind in (
        ("family", sa.LargeBinary),
        ("refresh", sa.LargeBinary),
        ("refresh_expires_in", sa.BigInteger),
        ("sealed", sa.LargeBinary),
        ("began", sa.BigInteger),
        ("spent", sa.BigInteger),
        ("redirect_uri", sa.Text),
        ("redirect_given", sa.BigInteger),
        ("challenge", sa.Text),
    ):
        op.add_column("tokens", sa.Column(name, kind, nullable=True))
    related = sa.text("family IS NOT NULL")
    op.create_index("tokens_family", "tokens", ["family"], sqlite_where=related, postgresql_where=related)
