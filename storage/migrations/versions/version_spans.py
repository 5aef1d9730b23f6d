"""Which policy sampled which tokens of a turn, where it changed in mid-turn."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; turns stored before are each of one policy."""
    op.execute("ALTER TABLE turns ADD COLUMN spans TEXT")


def downgrade() -> None:
    """Refuse: 0003 has no room for turns of several policies."""
    raise NotImplementedError("schema 0004 holds what 0003 cannot; keep the database, or start a new one")
