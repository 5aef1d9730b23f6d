"""Whom the environment speaks to, where it deals with seats one by one."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; turns stored before are for everybody."""
    op.execute("ALTER TABLE turns ADD COLUMN addressee TEXT")


def downgrade() -> None:
    """Refuse: 0002 has no room for whom a turn is for."""
    raise NotImplementedError("schema 0003 holds what 0002 cannot; keep the database, or start a new one")
