"""Hashes of steps, episodes without their tokens, alarms, and turns scored once more."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CHANGES = """
ALTER TABLE steps ADD COLUMN hash TEXT;
ALTER TABLE episodes ADD COLUMN thinned TEXT;
CREATE TABLE alarms (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    value DOUBLE NOT NULL,
    bound DOUBLE NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id, number),
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
CREATE TABLE rescores (
    id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    options TEXT NOT NULL,
    made_at TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (run_id, number),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE TABLE rescored (
    id INTEGER NOT NULL,
    rescore_id INTEGER NOT NULL,
    turn_id INTEGER NOT NULL,
    value DOUBLE,
    validity TEXT,
    "by" TEXT NOT NULL,
    note TEXT NOT NULL,
    criteria TEXT,
    leased_by TEXT,
    leased_until DOUBLE,
    PRIMARY KEY (id),
    UNIQUE (rescore_id, turn_id),
    FOREIGN KEY(rescore_id) REFERENCES rescores (id) ON DELETE CASCADE,
    FOREIGN KEY(turn_id) REFERENCES turns (id) ON DELETE CASCADE
);
CREATE INDEX ix_rescored_turn_id ON rescored (turn_id);
"""


def upgrade() -> None:
    """Add the columns and the tables; steps stored before have no hash."""
    for statement in CHANGES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Refuse: 0004 has no room for these rows."""
    raise NotImplementedError("schema 0005 holds rows that 0004 cannot; keep the database, or start a new one")
