"""Several trainers per step, pool statistics, per-token advantages, and steps that use episodes stored earlier."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite cannot drop a constraint: the rows of `advantages` wait in a temporary table while it is made anew. It is not
# renamed, because SQLite would then rewrite the views that read it.
CHANGES = """
ALTER TABLE groups ADD COLUMN trainer TEXT NOT NULL DEFAULT 'rl';
ALTER TABLE groups ADD COLUMN pool_size INTEGER;
ALTER TABLE groups ADD COLUMN pool_mean DOUBLE;
ALTER TABLE groups ADD COLUMN pool_std DOUBLE;
CREATE TEMP TABLE waiting AS SELECT * FROM advantages;
DROP TABLE advantages;
CREATE TABLE advantages (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    turn_id INTEGER NOT NULL,
    trainer TEXT NOT NULL DEFAULT 'rl',
    "group" INTEGER NOT NULL,
    role TEXT NOT NULL,
    reward DOUBLE,
    value DOUBLE NOT NULL,
    weight DOUBLE NOT NULL,
    n_tokens INTEGER NOT NULL,
    pull DOUBLE NOT NULL,
    tokens BLOB,
    note TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (id),
    UNIQUE (turn_id, step_id, trainer),
    FOREIGN KEY(step_id, "group") REFERENCES groups (step_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE,
    FOREIGN KEY(turn_id) REFERENCES turns (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_advantages_step_group ON advantages (step_id, "group");
INSERT INTO advantages (id, step_id, turn_id, "group", role, reward, value, weight, n_tokens, pull)
    SELECT id, step_id, turn_id, "group", role, reward, value, weight, n_tokens, pull FROM waiting;
DROP TABLE waiting;
CREATE TABLE borrowed (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    episode_id INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id, number),
    UNIQUE (episode_id, step_id),
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE,
    FOREIGN KEY(episode_id) REFERENCES episodes (id) DEFERRABLE INITIALLY DEFERRED
);
"""


def upgrade() -> None:
    """Add the columns and the table, and let several trainers and steps learn from one turn."""
    for statement in CHANGES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Refuse: 0001 has no room for what several trainers wrote."""
    raise NotImplementedError("schema 0002 holds rows that 0001 cannot; keep the database, or start a new one")
