"""Client secrets that the settings ask to be kept readable, encrypted under a key that is not in the database."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make room beside what is kept of the secret."""
    op.add_column("applications", sa.Column("sealed", sa.LargeBinary, nullable=True))
