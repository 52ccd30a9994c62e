"""Droplets with their ports, jobs, and apps with their releases and collaborators."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make `droplets`, `droplet_ports`, `last_numbers`, `jobs`, `apps` and what belongs to them."""
    _droplets()
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("droplet", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("finished", sa.BigInteger, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("code", sa.Text, nullable=True),
    )
    op.create_index("jobs_finished", "jobs", ["finished"])
    _apps()


def _droplets() -> None:
    op.create_table(
        "droplets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("ports", sa.Text, nullable=False),
        sa.Column("recipe", sa.LargeBinary, nullable=False),
        sa.Column("life", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=True),
    )
    op.create_table(
        "droplet_ports",
        sa.Column("port", sa.BigInteger, primary_key=True),
        sa.Column("droplet", sa.Text, nullable=False),
    )
    op.create_index("droplet_ports_droplet", "droplet_ports", ["droplet"])
    op.create_table(
        "last_numbers",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )


def _apps() -> None:
    op.create_table(
        "apps",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("owner", sa.BigInteger, nullable=False),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("release", sa.BigInteger, nullable=False),
        sa.Column("structure", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("apps_owner", "apps", ["owner"])
    op.create_table(
        "collaborators",
        sa.Column("app", sa.BigInteger, primary_key=True),
        sa.Column("user_number", sa.BigInteger, primary_key=True),
    )
    op.create_index("collaborators_user", "collaborators", ["user_number"])
    op.create_table(
        "releases",
        sa.Column("app", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("env", sa.LargeBinary, nullable=False),
        sa.Column("image", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "app_notes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("app", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("app_notes_app", "app_notes", ["app", "id"])
