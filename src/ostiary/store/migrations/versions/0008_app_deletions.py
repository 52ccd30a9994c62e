"""Apps whose deletion has begun."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add `deletion` to `apps`."""
    op.add_column("apps", sa.Column("deletion", sa.Text, nullable=True))
