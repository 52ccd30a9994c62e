"""The director: hosts that operators changed, and which user is at which host. And answers kept for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make `director_hosts`, `assignments`, `director_marks`, `expected_nodes` and `replays`."""
    op.create_table(
        "director_hosts",
        sa.Column("upstream", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, primary_key=True),
        sa.Column("port", sa.BigInteger, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sa.Column("vhosts", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("ailing", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "assignments",
        sa.Column("upstream", sa.Text, primary_key=True),
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("hash", sa.BigInteger, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("names", sa.Text, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("seen", sa.BigInteger, nullable=False, server_default="0"),
        sqlite_with_rowid=False,
    )
    op.create_index("assignments_host", "assignments", ["upstream", "host", "tag", "hash"])
    op.create_index("assignments_expires", "assignments", ["expires"])
    op.create_table(
        "director_marks",
        sa.Column("upstream", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("host", sa.Text, primary_key=True),
        sa.Column("ring", sa.Text, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("spared", sa.Text, nullable=False),
    )
    op.create_table(
        "expected_nodes",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("port", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "replays",
        sa.Column("caller", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("replays_at", "replays", ["at"])
