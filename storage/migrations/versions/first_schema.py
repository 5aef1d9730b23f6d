"""The first schema: every table and index as SQL, frozen. Views are not here: storage/views.py makes them anew."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE scenarios (
    id INTEGER NOT NULL,
    digest TEXT NOT NULL,
    resolved TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (digest)
);
CREATE TABLE runs (
    id INTEGER NOT NULL,
    scenario_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    seed INTEGER NOT NULL,
    status TEXT NOT NULL,
    info TEXT NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    PRIMARY KEY (id),
    FOREIGN KEY(scenario_id) REFERENCES scenarios (id)
);
CREATE INDEX ix_runs_scenario_id ON runs (scenario_id);
CREATE TABLE steps (
    id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    policy_version INTEGER NOT NULL,
    metrics TEXT NOT NULL,
    curriculum_state TEXT NOT NULL,
    seconds DOUBLE NOT NULL,
    saved_at TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (run_id, number),
    FOREIGN KEY(run_id, policy_version) REFERENCES policy_versions (run_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_steps_policy_version ON steps (run_id, policy_version);
CREATE TABLE policy_versions (
    id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    weights_sha TEXT NOT NULL,
    step_id INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (run_id, number),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
CREATE INDEX ix_policy_versions_step_id ON policy_versions (step_id);
CREATE TABLE checkpoints (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    sha TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id),
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
CREATE TABLE curriculum_events (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    arm TEXT NOT NULL,
    parameters TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id, number),
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
CREATE TABLE states (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id, name),
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
CREATE TABLE episodes (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    pick INTEGER NOT NULL,
    parameters TEXT NOT NULL,
    ending TEXT NOT NULL,
    error TEXT NOT NULL,
    reward DOUBLE,
    seconds DOUBLE NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id, number),
    FOREIGN KEY(step_id, pick) REFERENCES curriculum_events (step_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
CREATE TABLE tasks (
    id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    episode_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    "key" TEXT NOT NULL,
    environment TEXT NOT NULL,
    summary TEXT NOT NULL,
    payload TEXT NOT NULL,
    secret TEXT NOT NULL,
    parameters TEXT NOT NULL,
    skills TEXT NOT NULL,
    origin TEXT NOT NULL,
    origin_turn INTEGER,
    operator TEXT,
    parent_key TEXT,
    parent_id INTEGER,
    PRIMARY KEY (id),
    UNIQUE (episode_id, number),
    FOREIGN KEY(episode_id, origin_turn) REFERENCES turns (episode_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
    FOREIGN KEY(episode_id) REFERENCES episodes (id) ON DELETE CASCADE,
    FOREIGN KEY(parent_id) REFERENCES tasks (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_tasks_parent_id ON tasks (parent_id);
CREATE INDEX ix_tasks_run_key ON tasks (run_id, "key");
CREATE TABLE segments (
    id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    "key" TEXT NOT NULL,
    text_hash BLOB NOT NULL,
    text TEXT NOT NULL,
    token_ids BLOB,
    n_tokens INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (run_id, "key", text_hash),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
CREATE INDEX ix_segments_step_id ON segments (step_id);
CREATE TABLE turns (
    id INTEGER NOT NULL,
    episode_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    parent INTEGER,
    follows INTEGER,
    node TEXT NOT NULL,
    author TEXT NOT NULL,
    sample INTEGER NOT NULL,
    said TEXT NOT NULL,
    n_tokens INTEGER NOT NULL,
    token_ids BLOB,
    logprobs BLOB,
    finish TEXT,
    engine TEXT NOT NULL,
    seed INTEGER NOT NULL,
    parsed_kind TEXT,
    parsed_value TEXT,
    parsed_problem TEXT,
    task INTEGER,
    task_key TEXT,
    policy_version_id INTEGER NOT NULL,
    context_id INTEGER,
    train_context_id INTEGER,
    PRIMARY KEY (id),
    UNIQUE (episode_id, number),
    FOREIGN KEY(episode_id, parent) REFERENCES turns (episode_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(episode_id, follows) REFERENCES turns (episode_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(episode_id, task) REFERENCES tasks (episode_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(episode_id) REFERENCES episodes (id) ON DELETE CASCADE,
    FOREIGN KEY(policy_version_id) REFERENCES policy_versions (id),
    FOREIGN KEY(context_id) REFERENCES segments (id) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(train_context_id) REFERENCES segments (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_turns_context_id ON turns (context_id);
CREATE INDEX ix_turns_policy_version_id ON turns (policy_version_id);
CREATE INDEX ix_turns_train_context_id ON turns (train_context_id);
CREATE TABLE refusals (
    id INTEGER NOT NULL,
    turn_id INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (turn_id),
    FOREIGN KEY(turn_id) REFERENCES turns (id) ON DELETE CASCADE
);
CREATE TABLE rubrics (
    id INTEGER NOT NULL,
    episode_id INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    author INTEGER,
    version INTEGER NOT NULL,
    provenance TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (episode_id, turn),
    FOREIGN KEY(episode_id, turn) REFERENCES turns (episode_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(episode_id, author) REFERENCES turns (episode_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(episode_id) REFERENCES episodes (id) ON DELETE CASCADE
);
CREATE TABLE criteria (
    id INTEGER NOT NULL,
    rubric_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    text TEXT NOT NULL,
    points DOUBLE NOT NULL,
    kind TEXT NOT NULL,
    checker TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (rubric_id, number),
    FOREIGN KEY(rubric_id) REFERENCES rubrics (id) ON DELETE CASCADE
);
CREATE TABLE scores (
    id INTEGER NOT NULL,
    turn_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    value DOUBLE,
    validity TEXT NOT NULL,
    "by" TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (turn_id, number),
    FOREIGN KEY(turn_id) REFERENCES turns (id) ON DELETE CASCADE
);
CREATE TABLE criterion_scores (
    id INTEGER NOT NULL,
    score_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    criterion_id INTEGER,
    rubric_turn INTEGER,
    criterion INTEGER NOT NULL,
    share DOUBLE,
    validity TEXT NOT NULL,
    "by" TEXT NOT NULL,
    quote TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (score_id, number),
    FOREIGN KEY(score_id) REFERENCES scores (id) ON DELETE CASCADE,
    FOREIGN KEY(criterion_id) REFERENCES criteria (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_criterion_scores_criterion_id ON criterion_scores (criterion_id);
CREATE TABLE groups (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    role TEXT NOT NULL,
    node TEXT NOT NULL,
    scope TEXT NOT NULL,
    size INTEGER NOT NULL,
    mean DOUBLE,
    std DOUBLE,
    kept BOOLEAN NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id, number),
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
CREATE TABLE advantages (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    turn_id INTEGER NOT NULL,
    "group" INTEGER NOT NULL,
    role TEXT NOT NULL,
    reward DOUBLE,
    value DOUBLE NOT NULL,
    weight DOUBLE NOT NULL,
    n_tokens INTEGER NOT NULL,
    pull DOUBLE NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(step_id, "group") REFERENCES groups (step_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE,
    UNIQUE (turn_id),
    FOREIGN KEY(turn_id) REFERENCES turns (id) ON DELETE CASCADE
);
CREATE INDEX ix_advantages_step_group ON advantages (step_id, "group");
CREATE TABLE evaluations (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at_step INTEGER NOT NULL,
    name TEXT NOT NULL,
    value DOUBLE NOT NULL,
    n INTEGER NOT NULL,
    parameters TEXT NOT NULL,
    temperature DOUBLE NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id, number),
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
"""


def upgrade() -> None:
    """Create every table and index."""
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Refuse: a run's record is not thrown away by a schema change."""
    raise NotImplementedError("there is no schema before 0001; delete the database file instead")
