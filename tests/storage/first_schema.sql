-- A database of schema 0001 as the first release wrote it: run r1, steps 0 and 1 of `sample_step(n, episodes=2)`.
-- Never made anew: what migrates must be what was written then.
BEGIN TRANSACTION;
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
INSERT INTO "advantages" VALUES(1,1,1,0,'teacher',4.91464915552831116407e-01,-8.53508444716888359238e-03,1.0,34,-2.90192871203742057753e-04);
INSERT INTO "advantages" VALUES(2,1,4,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(3,1,6,1,'solver',0.0,-0.5,1.0,51,-0.0255);
INSERT INTO "advantages" VALUES(4,1,8,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(5,1,10,1,'solver',0.0,-0.5,1.0,51,-0.0255);
INSERT INTO "advantages" VALUES(6,1,12,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(7,1,14,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(8,1,16,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(9,1,5,2,'critic',1.0,0.5,1.0,24,0.012);
INSERT INTO "advantages" VALUES(10,1,7,2,'critic',0.0,-0.5,1.0,24,-0.012);
INSERT INTO "advantages" VALUES(11,1,9,2,'critic',NULL,0.0,1.0,24,0.0);
INSERT INTO "advantages" VALUES(12,1,11,2,'critic',0.0,-0.5,1.0,24,-0.012);
INSERT INTO "advantages" VALUES(13,1,13,2,'critic',1.0,0.5,1.0,24,0.012);
INSERT INTO "advantages" VALUES(14,1,15,2,'critic',1.0,0.5,1.0,24,0.012);
INSERT INTO "advantages" VALUES(15,1,17,2,'critic',1.0,0.5,1.0,24,0.012);
INSERT INTO "advantages" VALUES(16,1,18,0,'teacher',0.0,-0.5,1.0,6,-0.003);
INSERT INTO "advantages" VALUES(17,2,19,0,'teacher',7.93836264741768271591e-01,2.93836264741768271591e-01,1.0,34,9.99043300122012291331e-03);
INSERT INTO "advantages" VALUES(18,2,22,1,'solver',0.0,-0.5,1.0,50,-0.025);
INSERT INTO "advantages" VALUES(19,2,24,1,'solver',0.0,-0.5,1.0,51,-0.0255);
INSERT INTO "advantages" VALUES(20,2,26,1,'solver',0.0,-0.5,1.0,51,-0.0255);
INSERT INTO "advantages" VALUES(21,2,28,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(22,2,30,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(23,2,32,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(24,2,34,1,'solver',1.0,0.5,1.0,54,0.027);
INSERT INTO "advantages" VALUES(25,2,23,2,'critic',0.0,-0.5,1.0,24,-0.012);
INSERT INTO "advantages" VALUES(26,2,25,2,'critic',0.0,-0.5,1.0,24,-0.012);
INSERT INTO "advantages" VALUES(27,2,27,2,'critic',0.0,-0.5,1.0,24,-0.012);
INSERT INTO "advantages" VALUES(28,2,29,2,'critic',NULL,0.0,1.0,24,0.0);
INSERT INTO "advantages" VALUES(29,2,31,2,'critic',1.0,0.5,1.0,24,0.012);
INSERT INTO "advantages" VALUES(30,2,33,2,'critic',1.0,0.5,1.0,24,0.012);
INSERT INTO "advantages" VALUES(31,2,35,2,'critic',1.0,0.5,1.0,24,0.012);
INSERT INTO "advantages" VALUES(32,2,36,0,'teacher',0.0,-0.5,1.0,6,-0.003);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
INSERT INTO "checkpoints" VALUES(1,1,'step_0','00000000',1000000);
INSERT INTO "checkpoints" VALUES(2,2,'step_1','00000001',1000000);
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
INSERT INTO "criteria" VALUES(1,1,0,'says 12',2.0,'hard','rule');
INSERT INTO "criteria" VALUES(2,1,1,'at most 9 words',1.0,'hard','rule');
INSERT INTO "criteria" VALUES(3,1,2,'at least 1 lines',1.0,'hard','rule');
INSERT INTO "criteria" VALUES(4,2,0,'says 12',2.0,'hard','rule');
INSERT INTO "criteria" VALUES(5,2,1,'at most 9 words',1.0,'hard','rule');
INSERT INTO "criteria" VALUES(6,2,2,'at least 1 lines',1.0,'hard','rule');
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
INSERT INTO "criterion_scores" VALUES(1,4,0,1,2,0,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(2,4,1,2,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(3,4,2,3,2,2,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(4,7,0,1,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(5,7,1,2,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(6,7,2,3,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(7,10,0,1,2,0,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(8,10,1,2,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(9,10,2,3,2,2,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(10,13,0,1,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(11,13,1,2,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(12,13,2,3,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(13,16,0,1,2,0,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(14,16,1,2,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(15,16,2,3,2,2,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(16,19,0,1,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(17,19,1,2,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(18,19,2,3,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(19,22,0,1,2,0,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(20,22,1,2,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(21,22,2,3,2,2,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(22,25,0,1,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(23,25,1,2,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(24,25,2,3,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(25,28,0,1,2,0,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(26,28,1,2,2,1,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(27,28,2,3,2,2,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(28,31,0,1,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(29,31,1,2,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(30,31,2,3,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(31,34,0,1,2,0,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(32,34,1,2,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(33,34,2,3,2,2,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(34,37,0,1,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(35,37,1,2,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(36,37,2,3,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(37,40,0,1,2,0,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(38,40,1,2,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(39,40,2,3,2,2,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(40,43,0,1,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(41,43,1,2,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(42,43,2,3,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(43,49,0,4,2,0,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(44,49,1,5,2,1,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(45,49,2,6,2,2,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(46,52,0,4,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(47,52,1,5,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(48,52,2,6,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(49,55,0,4,2,0,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(50,55,1,5,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(51,55,2,6,2,2,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(52,58,0,4,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(53,58,1,5,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(54,58,2,6,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(55,61,0,4,2,0,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(56,61,1,5,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(57,61,2,6,2,2,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(58,64,0,4,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(59,64,1,5,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(60,64,2,6,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(61,67,0,4,2,0,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(62,67,1,5,2,1,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(63,67,2,6,2,2,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(64,70,0,4,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(65,70,1,5,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(66,70,2,6,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(67,73,0,4,2,0,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(68,73,1,5,2,1,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(69,73,2,6,2,2,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(70,76,0,4,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(71,76,1,5,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(72,76,2,6,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(73,79,0,4,2,0,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(74,79,1,5,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(75,79,2,6,2,2,0.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(76,82,0,4,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(77,82,1,5,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(78,82,2,6,2,2,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(79,85,0,4,2,0,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(80,85,1,5,2,1,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(81,85,2,6,2,2,1.0,'valued','rule','');
INSERT INTO "criterion_scores" VALUES(82,88,0,4,2,0,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(83,88,1,5,2,1,1.0,'valued','rule','right');
INSERT INTO "criterion_scores" VALUES(84,88,2,6,2,2,1.0,'valued','rule','right');
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
INSERT INTO "curriculum_events" VALUES(1,1,0,'depth=1','{"depth":1}',2);
INSERT INTO "curriculum_events" VALUES(2,1,1,'depth=2','{"depth":2}',2);
INSERT INTO "curriculum_events" VALUES(3,1,2,'depth=3','{"depth":3}',2);
INSERT INTO "curriculum_events" VALUES(4,1,3,'depth=4','{"depth":4}',2);
INSERT INTO "curriculum_events" VALUES(5,2,0,'depth=1','{"depth":1}',2);
INSERT INTO "curriculum_events" VALUES(6,2,1,'depth=2','{"depth":2}',2);
INSERT INTO "curriculum_events" VALUES(7,2,2,'depth=3','{"depth":3}',2);
INSERT INTO "curriculum_events" VALUES(8,2,3,'depth=4','{"depth":4}',2);
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
INSERT INTO "episodes" VALUES(1,1,0,0,'{"depth":1}','done','',6.77961779682345055952e-01,0.75,'be3619886c5a1e6d83d83c32b8a88872');
INSERT INTO "episodes" VALUES(2,1,1,1,'{"depth":2}','refused','',0.0,0.0,'318f55055dc94d6afe54d2e20f977b2b');
INSERT INTO "episodes" VALUES(3,2,0,0,'{"depth":1}','done','',5.56702590338697733685e-01,0.75,'0da59140f12ede612908e7574bc46205');
INSERT INTO "episodes" VALUES(4,2,1,1,'{"depth":2}','refused','',0.0,0.0,'03a4e2cf348dd9a1506d19d72413b1d8');
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
INSERT INTO "evaluations" VALUES(1,1,0,0,'accuracy',2.06130460637830359438e-01,200,'{"depth":2}',1.0);
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
INSERT INTO "groups" VALUES(1,1,0,'teacher','propose','step',2,0.5,0.25,1,'');
INSERT INTO "groups" VALUES(2,1,1,'solver','solve','siblings',7,0.5,0.5,1,'');
INSERT INTO "groups" VALUES(3,1,2,'critic','judge','siblings',7,0.5,0.5,1,'');
INSERT INTO "groups" VALUES(4,2,0,'teacher','propose','step',2,0.5,0.25,1,'');
INSERT INTO "groups" VALUES(5,2,1,'solver','solve','siblings',7,0.5,0.5,1,'');
INSERT INTO "groups" VALUES(6,2,2,'critic','judge','siblings',7,0.5,0.5,1,'');
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
INSERT INTO "policy_versions" VALUES(1,1,0,'',1);
INSERT INTO "policy_versions" VALUES(2,1,1,'750bc372e0e21bb3',1);
INSERT INTO "policy_versions" VALUES(3,1,2,'b64568149d84c640',2);
CREATE TABLE refusals (
    id INTEGER NOT NULL,
    turn_id INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (turn_id),
    FOREIGN KEY(turn_id) REFERENCES turns (id) ON DELETE CASCADE
);
INSERT INTO "refusals" VALUES(1,18,'syntax','''('' was never closed');
INSERT INTO "refusals" VALUES(2,36,'syntax','''('' was never closed');
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
INSERT INTO "rubrics" VALUES(1,1,2,2,1,'rubric_writer');
INSERT INTO "rubrics" VALUES(2,3,2,2,1,'rubric_writer');
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
INSERT INTO "runs" VALUES(1,1,'sample',0,'stopped','{}','2026-11-21T05:55:11Z','2026-11-21T05:55:11Z');
CREATE TABLE scenarios (
    id INTEGER NOT NULL,
    digest TEXT NOT NULL,
    resolved TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (digest)
);
INSERT INTO "scenarios" VALUES(1,'digest','{"name":"sample"}');
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
INSERT INTO "scores" VALUES(1,1,0,'learnability',4.91464915552831116407e-01,'valued','rule','');
INSERT INTO "scores" VALUES(2,3,0,'discrimination',NULL,'missing','rule','no valued attempt');
INSERT INTO "scores" VALUES(3,4,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(4,4,1,'rubric',3.33333333333333314829e-01,'valued','rules','');
INSERT INTO "scores" VALUES(5,4,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(6,5,0,'verdict',1.0,'valued','verifier','');
INSERT INTO "scores" VALUES(7,5,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(8,5,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(9,6,0,'verifier',0.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(10,6,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(11,6,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(12,7,0,'verdict',0.0,'valued','verifier','');
INSERT INTO "scores" VALUES(13,7,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(14,7,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(15,8,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(16,8,1,'rubric',6.66666666666666629659e-01,'valued','rules','');
INSERT INTO "scores" VALUES(17,8,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(18,9,0,'verdict',NULL,'invalid','verifier','the sandbox timed out');
INSERT INTO "scores" VALUES(19,9,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(20,9,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(21,10,0,'verifier',0.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(22,10,1,'rubric',6.66666666666666629659e-01,'valued','rules','');
INSERT INTO "scores" VALUES(23,10,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(24,11,0,'verdict',0.0,'valued','verifier','');
INSERT INTO "scores" VALUES(25,11,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(26,11,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(27,12,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(28,12,1,'rubric',0.0,'valued','rules','');
INSERT INTO "scores" VALUES(29,12,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(30,13,0,'verdict',1.0,'valued','verifier','');
INSERT INTO "scores" VALUES(31,13,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(32,13,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(33,14,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(34,14,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(35,14,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(36,15,0,'verdict',1.0,'valued','verifier','');
INSERT INTO "scores" VALUES(37,15,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(38,15,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(39,16,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(40,16,1,'rubric',6.66666666666666629659e-01,'valued','rules','');
INSERT INTO "scores" VALUES(41,16,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(42,17,0,'verdict',1.0,'valued','verifier','');
INSERT INTO "scores" VALUES(43,17,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(44,17,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(45,18,0,'learnability',0.0,'valued','rule','refused: syntax');
INSERT INTO "scores" VALUES(46,19,0,'learnability',7.93836264741768271591e-01,'valued','rule','');
INSERT INTO "scores" VALUES(47,21,0,'discrimination',NULL,'missing','rule','no valued attempt');
INSERT INTO "scores" VALUES(48,22,0,'verifier',0.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(49,22,1,'rubric',6.66666666666666629659e-01,'valued','rules','');
INSERT INTO "scores" VALUES(50,22,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(51,23,0,'verdict',0.0,'valued','verifier','');
INSERT INTO "scores" VALUES(52,23,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(53,23,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(54,24,0,'verifier',0.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(55,24,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(56,24,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(57,25,0,'verdict',0.0,'valued','verifier','');
INSERT INTO "scores" VALUES(58,25,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(59,25,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(60,26,0,'verifier',0.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(61,26,1,'rubric',3.33333333333333314829e-01,'valued','rules','');
INSERT INTO "scores" VALUES(62,26,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(63,27,0,'verdict',0.0,'valued','verifier','');
INSERT INTO "scores" VALUES(64,27,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(65,27,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(66,28,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(67,28,1,'rubric',0.0,'valued','rules','');
INSERT INTO "scores" VALUES(68,28,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(69,29,0,'verdict',NULL,'invalid','verifier','the sandbox timed out');
INSERT INTO "scores" VALUES(70,29,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(71,29,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(72,30,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(73,30,1,'rubric',3.33333333333333314829e-01,'valued','rules','');
INSERT INTO "scores" VALUES(74,30,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(75,31,0,'verdict',1.0,'valued','verifier','');
INSERT INTO "scores" VALUES(76,31,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(77,31,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(78,32,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(79,32,1,'rubric',3.33333333333333314829e-01,'valued','rules','');
INSERT INTO "scores" VALUES(80,32,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(81,33,0,'verdict',1.0,'valued','verifier','');
INSERT INTO "scores" VALUES(82,33,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(83,33,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(84,34,0,'verifier',1.0,'valued','sandbox','');
INSERT INTO "scores" VALUES(85,34,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(86,34,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(87,35,0,'verdict',1.0,'valued','verifier','');
INSERT INTO "scores" VALUES(88,35,1,'rubric',1.0,'valued','rules','');
INSERT INTO "scores" VALUES(89,35,2,'format',1.0,'valued','rule','');
INSERT INTO "scores" VALUES(90,36,0,'learnability',0.0,'valued','rule','refused: syntax');
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
INSERT INTO "segments" VALUES(1,1,1,'bcbb044dbc752050',X'580C6DAB2484872B','Write a program.',X'11577269746520612070726F6772616D2E',16);
INSERT INTO "segments" VALUES(2,1,1,'90d5195cee5bdd23',X'DBD39B99C12D8B98','a = 90759
b = a + 49
print(b * 2)

What is printed?',X'1161203D2039303735390A62203D2061202B2034390A7072696E742862202A2032290A0A57686174206973207072696E7465643F',51);
INSERT INTO "segments" VALUES(3,1,1,'4d52425f01e40c6b',X'13070B0EEE9F1E93','Is it right? <think>a=90759; b=90808</think><answer>181616</answer>',X'1149732069742072696768743F203C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3138313631363C2F616E737765723E',67);
INSERT INTO "segments" VALUES(4,1,1,'6a082c613887be87',X'1B9AB69AB9DE0BEF','Is it right? <think>a=90759; b=90808</think><answer>402</answer>',X'1149732069742072696768743F203C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3430323C2F616E737765723E',64);
INSERT INTO "segments" VALUES(5,1,1,'96c8a945b2e003d6',X'D625D644B04EE247','Is it right? <think>a=90759; b=90808</think><answer>544</answer>',X'1149732069742072696768743F203C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3534343C2F616E737765723E',64);
INSERT INTO "segments" VALUES(6,1,2,'5f1ca28542e3f9ab',X'AE2263B993E00F45','a = 57914
b = a + 93
print(b * 2)

What is printed?',X'1161203D2035373931340A62203D2061202B2039330A7072696E742862202A2032290A0A57686174206973207072696E7465643F',51);
INSERT INTO "segments" VALUES(7,1,2,'a2e732ea9c65f85d',X'CEC4520A883B4448','Is it right? <think>a=57914; b=58007</think><answer>10</answer>',X'1149732069742072696768743F203C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E31303C2F616E737765723E',63);
INSERT INTO "segments" VALUES(8,1,2,'725359d689e6161d',X'E5C5EC78E1169759','Is it right? <think>a=57914; b=58007</think><answer>602</answer>',X'1149732069742072696768743F203C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3630323C2F616E737765723E',64);
INSERT INTO "segments" VALUES(9,1,2,'1ae6b0908a5f6383',X'A349A74C34D7A63E','Is it right? <think>a=57914; b=58007</think><answer>639</answer>',X'1149732069742072696768743F203C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3633393C2F616E737765723E',64);
INSERT INTO "segments" VALUES(10,1,2,'64e134b9d623aba2',X'76984D555A8F942B','Is it right? <think>a=57914; b=58007</think><answer>116014</answer>',X'1149732069742072696768743F203C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3131363031343C2F616E737765723E',67);
CREATE TABLE states (
    id INTEGER NOT NULL,
    step_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (step_id, name),
    FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
INSERT INTO "states" VALUES(1,1,'baseline','{"solver":0.08407120821379654,"critic":0.4113331816515233}');
INSERT INTO "states" VALUES(2,2,'baseline','{"solver":0.7722419383219993,"critic":0.6685634419183857}');
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
INSERT INTO "steps" VALUES(1,1,0,1,'{"entropy":0.11670950161954186,"kl":null,"loss":0.8263096237107957,"update_seconds":0.25}','{"values":[0.7933771570200618,0.055313928238827414,0.8555907355679395,0.5298649210915352],"step":0}',1.5,'2026-11-21T05:55:11Z');
INSERT INTO "steps" VALUES(2,1,1,2,'{"entropy":0.26752862906907904,"kl":null,"loss":0.756107063624135,"update_seconds":0.25}','{"values":[0.6529649413458003,0.2516272855505366,0.5594337385547278,0.1888020420828206],"step":1}',1.5,'2026-11-21T05:55:11Z');
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
INSERT INTO "tasks" VALUES(1,1,1,0,'2bff06be2193222d','code','a = 44916; b = a + 61; print(b * 2)','{"program":"a = 44916\nb = a + 61\nprint(b * 2)\n"}','{"reference":"89954","trace":["a=44916","b=44977"]}','{"depth":2}','["arithmetic"]','generator',NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(2,1,1,1,'13acab18a9e1cd44','code','a = 90759; b = a + 49; print(b * 2)','{"program":"a = 90759\nb = a + 49\nprint(b * 2)\n"}','{"reference":"181616","trace":["a=90759","b=90808"]}','{"depth":2}','["arithmetic"]','teacher',0,NULL,'2bff06be2193222d',1);
INSERT INTO "tasks" VALUES(3,1,3,0,'08b459399fb9165c','code','a = 99062; b = a + 74; print(b * 2)','{"program":"a = 99062\nb = a + 74\nprint(b * 2)\n"}','{"reference":"198272","trace":["a=99062","b=99136"]}','{"depth":2}','["arithmetic"]','generator',NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(4,1,3,1,'7f2f7de068e31df2','code','a = 57914; b = a + 93; print(b * 2)','{"program":"a = 57914\nb = a + 93\nprint(b * 2)\n"}','{"reference":"116014","trace":["a=57914","b=58007"]}','{"depth":2}','["arithmetic"]','teacher',0,NULL,'08b459399fb9165c',3);
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
INSERT INTO "turns" VALUES(1,1,0,NULL,NULL,'propose','teacher',0,'a = 90759
b = a + 49
print(b * 2)
',34,X'1161203D2039303735390A62203D2061202B2034390A7072696E742862202A2032290A',X'1564AD54BFEB38CBBEAF7111BF48F84CBFF2386DBFFC0EF2BE486134BC1E6807BEFF181ABE488C45BFF820A4BE0260B0BD7B876EBF826659BF0FB38FBE4E1E1FBF320D4FBF5C528ABEBC87FFBD6D7A33BF8D7CBDBEAC5B07BFFAB013BFC1453ABF099227BFED0468BF45E953BF286817BFB81552BFA69D05BFFC9206BF306D94BE77880DBFA2AA36BF','stop','scripted',7016550800140216885,'text','"a = 90759\nb = a + 49\nprint(b * 2)\n"',NULL,0,NULL,1,1,NULL);
INSERT INTO "turns" VALUES(2,1,1,0,NULL,'admit','environment',0,'accepted',0,NULL,NULL,NULL,'',6344467482426374518,NULL,'null',NULL,1,NULL,1,NULL,NULL);
INSERT INTO "turns" VALUES(3,1,2,1,NULL,'rubric','rubric_writer',0,'2 says 12
1 at most 9 words
1 at least 1 lines',46,X'113220736179732031320A31206174206D6F7374203920776F7264730A31206174206C656173742031206C696E6573',X'15807372BFAB5FDFBC4C05BABE6AB961BFDF59DDBE5E41F1BE21D843BF70E08EBEFB023EBF2E3155BFA02EBDBE83DFA1BEEAEF41BF64F1FEBEB99E91BEEF1D4EBD8CE505BF1F1CA6BEC12E51BF0275AABEA66558BF9B4849BFA91039BF828C76BD7E3A80BEA81C74BFF3A3EABE5FF777BFE10511BF69440DBEFCEE1EBF7B4620BF2F06EEBDF4052CBF89E3BBBEC9B814BFC8BECEBE88D757BF642A3CBF18CE6FBF2D1F12BFFB599BBEB6DA6DBF5B0527BF2D3CFEBEC60507BF','stop','scripted',6497004028358970756,'text','"2 says 12\n1 at most 9 words\n1 at least 1 lines"',NULL,1,NULL,1,2,NULL);
INSERT INTO "turns" VALUES(4,1,3,1,NULL,'solve','solver',0,'<think>a=90759; b=90808</think><answer>181616</answer>',54,X'113C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3138313631363C2F616E737765723E',X'15634A2EBF8A6E8CBE52A270BFAE08BEBE03E9F0BE51F9F5BEEF6C52BE7B433ABDE4C666BFDD5ED9BE7F8F2BBF6ED6DFBD1D5B93BD8215E6BCAE562EBFCCD471BF0B6CA2BEF2B2E2BEF34072BEB01C7BBF7FDD78BEEDEF4CBEE9B641BFD6515DBF2C7E20BD182673BF2100A9BE77F762BFB99015BF98A5A1BCAB8ABEBE5F8C81BE46F345BF490220BFF0A00CBFC7AB1BBE6242ECBE0F02B8BD2A76FFBD6E952FBF1AD85CBF89F900BF9748CDBEA46509BF7B2119BFC9FBF1BEA51F5BBFC65308BF010454BF814238BF75C054BFBA1FF3BE2A6C58BF95E82CBF','stop','scripted',8222258707868695364,'text','"<think>a=90759; b=90808</think><answer>181616</answer>"',NULL,1,NULL,1,2,NULL);
INSERT INTO "turns" VALUES(5,1,4,3,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'150C1928BFC72B75BF0E059BBE137783BE47BBE0BE93F059BF337F70BEB50971BF155A92BE9E8E3FBF7579A2BEF68126BF46E048BE6DCF73BF71C165BF500A04BF09D70FBE5D41C2BEC8DDE8BE8993B0BDB5E1D9BD0C6BB4BED361B0BD39549EBC','stop','scripted',7497051321641740750,'text','"<verdict>right</verdict>"',NULL,1,NULL,1,3,NULL);
INSERT INTO "turns" VALUES(6,1,5,1,NULL,'solve','solver',1,'<think>a=90759; b=90808</think><answer>402</answer>',51,X'113C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3430323C2F616E737765723E',X'15BEB86CBF66ABEABE83B70BBE8BBD67BF119006BE3EAF15BF1448FABE614F73BFEDF311BF897443BF2B697BBFAD8617BF2B8A31BF4911B0BE24160ABFFC684BBF15C901BF734357BE3C97BFBEAD275DBBBAB923BF71DF12BE70B86ABF3EE693BD809F71BF3A5131BE27514EBFA17384BE556966BF0BB9C2BE824E7CBF7035EFBE620717BFDC127FBF729A44BF4FE780BE59AFB5BEBDFEBDBE74EF2BBF7B1AB9BE09439FBE8A642BBFDD5F5ABF2AC2D2BD28CC13BF5C417DBFC42966BFC6D6F1BE9BF632BF76C8CABE1BC17CBF','stop','scripted',8744168384821991213,'text','"<think>a=90759; b=90808</think><answer>402</answer>"',NULL,1,NULL,1,2,NULL);
INSERT INTO "turns" VALUES(7,1,6,5,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15CDB920BFF74378BEB79A52BEEB0C28BF62A828BF2F8E1FBFE74AA4BE9DE162BF8725FDBEE2C362BF070230BFECC794BE3A4180BE48DECBBE4729BFBE259F9EBE8FFF5BBF892437BF254CC4BE7E02A7BCE43339BF96900EBF69D782BD0689D2BE','stop','scripted',4973140094672956582,'text','"<verdict>right</verdict>"',NULL,1,NULL,1,4,NULL);
INSERT INTO "turns" VALUES(8,1,7,1,NULL,'solve','solver',2,'<think>a=90759; b=90808</think><answer>181616</answer>',54,X'113C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3138313631363C2F616E737765723E',X'15391CBBBE88CE26BE2F5CE8BEAF4EADBEA90372BCB79158BEEC6817BE72B06EBFADEF1ABFB0A5B1BE1F092CBF535422BFC10E6EBF2E935BBFCA2202BFE5F826BFDCF1FEBDA70D98BEA2C321BE1464EEBD5A0F6BBF8AC575BF83F133BD4751FEBE94EDD2BEF81112BFEB4760BF8F0C1BBE135DF6BD81F94BBFA38B2ABFAE4D22BEDB85D9BE29216FBFF249DEBEE32541BF1B93BFBEDEED5EBF6BE0B9BE6DED4FBE4BFF06BCF6D621BF28E59BBE9B342DBF0B8410BC4E283FBE37BDB1BE04855BBF1BD410BFB5441ABFA5FB45BECC3A35BFAF0931BF1C0B28BF','stop','scripted',1878235870349068026,'text','"<think>a=90759; b=90808</think><answer>181616</answer>"',NULL,1,NULL,1,2,NULL);
INSERT INTO "turns" VALUES(9,1,8,7,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15C48746BEDD4120BE37D57DBEED453BBE032C54BFF2CF09BF992A40BF731C24BF8C0C13BEDDE4BEBD994741BFC6492CBF3C7E4DBF96C84BBF3C6E0ABD9E7B86BE154C14BF30A424BFF64A53BF249E0EBFE80FE3BE4483F8BEA685C9BE5BFED9BE','stop','scripted',1913759496739063946,'text','"<verdict>right</verdict>"',NULL,1,NULL,1,3,NULL);
INSERT INTO "turns" VALUES(10,1,9,1,NULL,'solve','solver',3,'<think>a=90759; b=90808</think><answer>544</answer>',51,X'113C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3534343C2F616E737765723E',X'1582C013BFA86BABBEEFFF43BF079EEDBEEF3563BE91702BBFF15DB9BE0EA33BBFF09914BF670F38BF74FC54BE3B04E4BEE5ED10BDA52E07BE6CFBB1BC189B13BC33050EBE2085EFBE0074F5BE4F893CBDFF456EBF459DC6BE06DD47BF38CA59BF2938E9BC73FD6FBE890315BF53A55ABF4DC391BE30E95FBF8269D1BEB7524FBFDA3DB1BEB51104BFEA881CBF886433BECFF776BE2C895ABFCCBB2FBFF3893DBE5B7BF0BED80518BE12D298BE06CDC1BBA1A773BFC716C1BD7DD3D2BE3F6764BF4DB979BF017609BF2D47ACBE','stop','scripted',5359803296099657466,'text','"<think>a=90759; b=90808</think><answer>544</answer>"',NULL,1,NULL,1,2,NULL);
INSERT INTO "turns" VALUES(11,1,10,9,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15457A4FBEBE8C73BF9FEFAFBEB5876ABF962297BE225967BD9F5E88BE6A3227BF199808BFDDBD58BEEFD857BF51B289BEED3C5EBF146045BF47081DBF65EC03BF0F3D05BEB80737BFCCEF3EBF04FB3BBF2CF00CBE5CA35FBF702026BFEEB7A0BD','stop','scripted',7013051723006887206,'text','"<verdict>right</verdict>"',NULL,1,NULL,1,5,NULL);
INSERT INTO "turns" VALUES(12,1,11,1,NULL,'solve','solver',4,'<think>a=90759; b=90808</think><answer>181616</answer>',54,X'113C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3138313631363C2F616E737765723E',X'1521C428BEFA2159BFDEF855BF1DCE18BFA6FB16BE19D33CBF86B510BF04EE63BFD7F817BD40BE3FBF290AA7BE8498D5BE51F240BF103CE2BEEF8D15BEE4DC74BF8D3C19BF10BF55BFA46E5ABF78C1C9BE742569BE780904BFE1A8F9BEB54B49BFB7374EBF9BC91ABF8DC75EBFB0BA16BF3FC8DABE3C7B03BF3B7339BFD70D53BE7B6F08BFDC3F2CBF76BF41BF9972C0BEC28A8CBE3442DEBE5B62BEBEE3512CBF0B113CBF9E3B64BF91B789BE4AB383BE214D9DBEF191C1BD420F3BBDBD8D0FBE155CCCBDE491B8BEB06E2CBF02804ABF592455BFE0CD4CBB','stop','scripted',3776681697081848394,'text','"<think>a=90759; b=90808</think><answer>181616</answer>"',NULL,1,NULL,1,2,NULL);
INSERT INTO "turns" VALUES(13,1,12,11,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15339908BD6430ADBD9843E9BE90E44ABFCA2846BF030156BF43FC94BE8983DDBD9F885FBEA6648EBE17DD71BFFBAD7BBF098124BF720E02BFB9352ABF7223B7BCED2D2EBBF2C749BE811B5ABF4B0768BCD2FEF6BD713379BF73940BBFC70AF3BE','stop','scripted',3376421991352545437,'text','"<verdict>right</verdict>"',NULL,1,NULL,1,3,NULL);
INSERT INTO "turns" VALUES(14,1,13,1,NULL,'solve','solver',5,'<think>a=90759; b=90808</think><answer>181616</answer>',54,X'113C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3138313631363C2F616E737765723E',X'15CF52B3BD79F6A8BC4147CABEA3DB20BFC42137BF3C6641BF779FB7BEB7CF8FBD936557BD94D248BF49116DBF4411A6BEC96B62BF0AAC65BF27E28FBE483F2DBE3B8B27BF87F893BEEFAE21BF27380EBF63D8C6BEF25D68BEC4049DBEABACDBBD230419BF19621ABFC9285ABFB23847BF1F495ABFB72284BE5ABCEEBD2ABE85BEE88565BFBBD760BF6E150EBEF0EA72BE449371BFEB5455BFB3905CBFFE7F30BD23BC45BE356337BE50EBE0BD993A78BFC478F2BEEB8E64BF95A431BF2D8E14BF7D364FBF6CE919BF737F18BFB2E743BFFA4B17BE0BAF20BF','stop','scripted',7447453378507718060,'text','"<think>a=90759; b=90808</think><answer>181616</answer>"',NULL,1,NULL,1,2,NULL);
INSERT INTO "turns" VALUES(15,1,14,13,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15C6D2C4BE0094ECBEF4DBF3BE1EEA57BE38480FBF6786F3BE5D24B0BE0601FEBE3D9E5EBFC274C0BE2E1A07BE2D7E1DBE4BD26FBE849F40BE9DF3E9BDA79453BFB5087ABFD9CB46BF997532BFE44730BD91F09ABE512895BEB551DBBD00EE6CBF','stop','scripted',1037796357958046635,'text','"<verdict>right</verdict>"',NULL,1,NULL,1,3,NULL);
INSERT INTO "turns" VALUES(16,1,15,1,NULL,'solve','solver',6,'<think>a=90759; b=90808</think><answer>181616</answer>',54,X'113C7468696E6B3E613D39303735393B20623D39303830383C2F7468696E6B3E3C616E737765723E3138313631363C2F616E737765723E',X'15B9A739BE9C2AE0BD9EC24DBFA6B495BCE8C798BE9B7E3DBFFEA63ABF7FC10BBE62BFFDBE85A155BD8ED830BFC8E4E4BE02A31EBD04A315BFED795BBE47172CBEC15A9CBE3768DABEC64188BDC89527BFD46306BE58F96ABF642F39BF0D3236BF802949BEF88F00BFF6B16ABF45D01BBEB208C2BEEA9F1FBEB7D038BF72702EBF985B18BF083162BEA2CC98BE9BFB64BE114E80BE093F38BF04F913BF78A761BF154F3BBE525C78BFFFFB6BBF501278BF885BFFBDBA863CBFB08D4EBE528F01BFE06F38BF0AC553BF51F30FBC579893BD6D3926BF9D1645BF','stop','scripted',3055500457567081579,'text','"<think>a=90759; b=90808</think><answer>181616</answer>"',NULL,1,NULL,1,2,NULL);
INSERT INTO "turns" VALUES(17,1,16,15,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'150C3A78BF949900BF7F0594BE6D5B53BF27BC4ABF4BA020BE3058BBBD640321BFBD2E24BEAE339EBE804DDBBE348846BE556E2CBF2B8852BF364107BF00E219BFBE8AC1BE035D93BE9F5118BF0069A7BD87948CBE4F8D02BFDBDFBCBDD96B49BD','stop','scripted',8832166521362797968,'text','"<verdict>right</verdict>"',NULL,1,NULL,1,3,NULL);
INSERT INTO "turns" VALUES(18,2,0,NULL,NULL,'propose','teacher',0,'print(',6,X'117072696E7428',X'154600B4BEA3373CBDB5684EBFD7E939BEAC0A75BF5EC1F0BE','stop','scripted',7998201411404003890,'text','"print("',NULL,NULL,NULL,1,1,NULL);
INSERT INTO "turns" VALUES(19,3,0,NULL,NULL,'propose','teacher',0,'a = 57914
b = a + 93
print(b * 2)
',34,X'1161203D2035373931340A62203D2061202B2039330A7072696E742862202A2032290A',X'1557F91EBF829EC9BE036455BF56DF62BF7B9F9FBC6C8778BF6C1984BC12324EBF25BA88BD406413BF57D925BF2E0319BE67E42CBD35E8E5BC03575BBF3801BBBD0F44F4BDEC8477BFA203B7BE1A7716BFC2B48DBEC9624EBF70CBC5BE525FCBBD5F903BBED6AA99BE7B1A5DBE56BD4BBF8BD6DEBEFA0329BFBBE198BC08CC88BEC96DC6BE446334BF','stop','scripted',1468917964662727342,'text','"a = 57914\nb = a + 93\nprint(b * 2)\n"',NULL,0,NULL,2,1,NULL);
INSERT INTO "turns" VALUES(20,3,1,0,NULL,'admit','environment',0,'accepted',0,NULL,NULL,NULL,'',1277580877268597307,NULL,'null',NULL,1,NULL,2,NULL,NULL);
INSERT INTO "turns" VALUES(21,3,2,1,NULL,'rubric','rubric_writer',0,'2 says 12
1 at most 9 words
1 at least 1 lines',46,X'113220736179732031320A31206174206D6F7374203920776F7264730A31206174206C656173742031206C696E6573',X'15DA11CFBEA2158FBED2492EBFA68BCFBEFFF21CBF76324DBF80167EBF16879EBCBFF561BFEC5D84BC69F84ABF14692EBF207716BE102D7BBD86600BBF5C3D0EBF3F0ED8BE383203BF67372BBFC2AE44BF8C2022BFC51520BFF6D458BFC8F0A3BC4B9BC1BE7D2B70BF2D4341BFE7C937BFEF1857BF650988BE65AE16BFF98E5FBFE4DBACBEE0E800BE02A978BF2FEDC6BDA0FAD5BE2FCC38BFAF2784BE585D60BF2BBB13BD35782CBFDC6563BF5D940ABF4D1145BFEEEF8CBE','stop','scripted',6947965319184722024,'text','"2 says 12\n1 at most 9 words\n1 at least 1 lines"',NULL,1,NULL,2,6,NULL);
INSERT INTO "turns" VALUES(22,3,3,1,NULL,'solve','solver',0,'<think>a=57914; b=58007</think><answer>10</answer>',50,X'113C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E31303C2F616E737765723E',X'150F8B95BC3E4A7ABEE0517FBFABE17CBF401C29BF880C41BFB84465BF9F9B7EBEFA37CEBD53D644BF8C0211BF04BD5BBF65C22EBF84F163BFF8BA3DBF47B760BFC4A58CBE89AC67BEB8F671BFAABBD3BD2AE5CCBEEE449DBEC66C56BE694B0FBF04F70FBF2EA50EBE28F060BF806303BF7A6667BF20A1FEBEA64AECBEFB5311BFB3842BBF142D3EBFF7D3F6BEE93B1BBF0C5CE6BE96C84CBF06BDE4BE32FFB3BEB19458BF447938BE44A24FBF0636D3BED73B82BE44852DBFD9E9E6BED60818BFBCCA3EBFCA1242BD','stop','scripted',8948092995889409873,'text','"<think>a=57914; b=58007</think><answer>10</answer>"',NULL,1,NULL,2,6,NULL);
INSERT INTO "turns" VALUES(23,3,4,3,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'158FFA6DBC3BA8C5BE14D16ABF48970CBFAFA482BE6FBCBCBE587AD5BCCED9F3BE17FFEDBED5D00FBBA7BF78BF9F5AE8BEE284AABE26CA0FBE78C19CBE84514ABE0A87E1BD722D2DBF7A6480BE79FA4DBEFB3694BEC145AFBD5F2507BF689A17BF','stop','scripted',8651852433514231586,'text','"<verdict>right</verdict>"',NULL,1,NULL,2,7,NULL);
INSERT INTO "turns" VALUES(24,3,5,1,NULL,'solve','solver',1,'<think>a=57914; b=58007</think><answer>602</answer>',51,X'113C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3630323C2F616E737765723E',X'159C0D64BF48F37EBF376130BE02EC42BF411677BFD68200BF30C469BE7309B9BE605E2BBE3E3F43BFA2723BBF8CE908BFDDC358BFEC26EABE51EC1EBFF2DC39BE3CA05EBF8FD529BFF155E8BE7D8050BE08BE77BF6FDF7ABE3A2F28BFD6548DBED53C74BE92EB49BF48309BBDD3DBB8BEE04D98BC32BE39BFB0EAC2BD9FCC9EBCE3341EBF557886BCB656EEBE2A7164BF257B5BBF303335BF0661CCBED7BF12BF205699BE35AD35BF873B1FBFCCBBE7BEDC6D2FBF7BCDA6BE259AF6BE84482BBF103148BF43A511BF5B0FB6BE','stop','scripted',6163881829658308890,'text','"<think>a=57914; b=58007</think><answer>602</answer>"',NULL,1,NULL,2,6,NULL);
INSERT INTO "turns" VALUES(25,3,6,5,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'1589B5CCBDF1C435BE5FCDAABD940FBFBE6CBC76BF9101E3BD64E743BF8FB8F7BEAACF69BF759844BEFB9DF3BD8613BCBE5CEF9BBEC956BCBEDA764CBFAE4173BE6C745DBD5C548BBE849ACCBEC1044FBF5C55DCBE25B427BF74BCACBEE18233BF','stop','scripted',214236417801471286,'text','"<verdict>right</verdict>"',NULL,1,NULL,2,8,NULL);
INSERT INTO "turns" VALUES(26,3,7,1,NULL,'solve','solver',2,'<think>a=57914; b=58007</think><answer>639</answer>',51,X'113C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3633393C2F616E737765723E',X'15694EC3BE80C073BF72734BBF91B0A6BECB3578BF2CBF29BF262F10BF2E387FBFF47246BFBFCF6EBF4CD89EBDAF083CBDCB3B29BFF05D50BFEA0EBDBEFA0F14BE78BDAFBC2BED32BFAA7BC9BEFCE22DBF8DFE94BD689873BF619C46BED14867BFDB4E4DBE87EE04BFBA5E2EBF76EFF1BE9F2F75BE7C0A12BFF1D307BE7158EFBE735D1DBEA3EA76BFD6E30DBFCB1E43BB7C2200BF5AF82DBF79A401BF4A910BBD65B350BE76B33EBFA1C0C6BE44262DBFD14D61BE40E459BF013581BE84B528BF1E63C7BC59D77CBFB26C65BF','stop','scripted',5200637009169119279,'text','"<think>a=57914; b=58007</think><answer>639</answer>"',NULL,1,NULL,2,6,NULL);
INSERT INTO "turns" VALUES(27,3,8,7,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15CCD90FBFBE9701BF7B1501BF5B5BF9BE2A2E31BFD040F0BE193905BF3FD2DABEEA222FBFC75AFEBB482FDFBE5A1531BF192C64BEB590DABE08020CBF4815DEBE614975BEC83A19BF379468BF2E9054BF722274BFAB68BABEEA434EBF625887BD','stop','scripted',995336867147020883,'text','"<verdict>right</verdict>"',NULL,1,NULL,2,9,NULL);
INSERT INTO "turns" VALUES(28,3,9,1,NULL,'solve','solver',3,'<think>a=57914; b=58007</think><answer>116014</answer>',54,X'113C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3131363031343C2F616E737765723E',X'15B14199BE64404FBEA95E18BFA4D54ABF81EB15BF04EA06BF5C1A50BEE642E2BED2DF8FBDF35918BFBECF9EBE0CA1DFBE06556ABF7A0861BE8520D9BE15418ABE05E006BF795F09BF2E75E4BDEE042CBF37F0D6BC8B2C2EBFB45251BF933EBFBE21AC6FBFAD1CEABE635807BF59D17ABED3B921BFFBDFB1BEDC3A6FBF06CE41BF8E884BBFE9C93CBF417497BE923B7ABF3367C9BE2853FFBE096C7DBE42FF5ABF6DB226BF91B041BF1CD461BE7A87A3BD220218BD66FC2BBFC6696CBDCB09F6BEF86E5CBEC762F1BE62276EBFC1E72CBFEA6511BFFD4C2DBF','stop','scripted',5792781188727341335,'text','"<think>a=57914; b=58007</think><answer>116014</answer>"',NULL,1,NULL,2,6,NULL);
INSERT INTO "turns" VALUES(29,3,10,9,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15E51F51BE106529BE686D60BFBC6650BF566116BFD46953BFE0B193BE82414CBF014575BF0F5FE4BDE9FD72BF7D9DC0BED67D1CBFC4E252BF61B9ABBE0D58DCBC581777BFA2BB05BE2E4C37BF508A7EBF72227EBF83CEC5BE0E5672BFCEF200BF','stop','scripted',7284694342149409319,'text','"<verdict>right</verdict>"',NULL,1,NULL,2,10,NULL);
INSERT INTO "turns" VALUES(30,3,11,1,NULL,'solve','solver',4,'<think>a=57914; b=58007</think><answer>116014</answer>',54,X'113C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3131363031343C2F616E737765723E',X'15E7B853BF60848CBDDE630FBFA94071BF1EB5E4BEBAC2D3BE733025BF91CF8FBECB194CBF4E3B74BFD53DABBE05AF3EBF36636CBF8EAB17BF3B2908BE319008BF736A29BF1D2683BECAAE74BFDC4458BFA75F7ABD3427A2BED5076FBD896253BEB834B7BE0EF43FBFA7DF49BFD63CD5BEE630D5BD96311BBFDC15D2BE00DCCDBDCA8E39BFD621AABDAA307FBF93D78DBECF3A28BC307841BE58D43EBFE6C34BBF51F435BFF8A447BFA84E4CBF99B867BFFA5D3BBF07F455BFFE5C8FBEC31666BF485876BFDA06E3BEB1850BBF387B21BB837684BEFC9CC7BE','stop','scripted',7813553188498815863,'text','"<think>a=57914; b=58007</think><answer>116014</answer>"',NULL,1,NULL,2,6,NULL);
INSERT INTO "turns" VALUES(31,3,12,11,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15E7BFCFBEEF4859BFACE521BFF0C970BF6A5F87BE7BA5D9BE5597CEBE55CD13BF90C46ABECB083CBFC40885BE0434AFBEDE1FA4BD12D30BBF78F921BF7519C7BE25171CBFEC9742BFB9B4E7BEEA1A5BBF73A7E1BEDFF822BFEBBC7DBF5441DEBE','stop','scripted',7747586455028359636,'text','"<verdict>right</verdict>"',NULL,1,NULL,2,10,NULL);
INSERT INTO "turns" VALUES(32,3,13,1,NULL,'solve','solver',5,'<think>a=57914; b=58007</think><answer>116014</answer>',54,X'113C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3131363031343C2F616E737765723E',X'1521E1DEBEFC7E29BF85DE71BF664F73BF3CB467BE4C059BBD6197B0BE71C27EBF24E86EBF163B49BFE08362BFD11231BF6C70F7BE6BEF7EBFCFF3C8BE423E2FBF4D81BCBE43D187BE5A6EA0BDAB5459BF0CCE3EBF0FFF2ABF13B3FBBE93DB5BBF9F06CEBEA32414BF3FE56DBDA146AABE2560A1BEF28077BF51E15CBE3EEE3CBED52577BF6C814CBF8D17C7BE7106E2BD76FE0BBFF89C2FBFB40276BF393C49BF14C120BE4F7C3ABE0D9452BFF80B22BF144176BF138B65BFEBB72DBE32197BBF80DF46BD56F81CBF93A2B0BE8714EBBE0445BEBE991F56BE','stop','scripted',3812836031043239242,'text','"<think>a=57914; b=58007</think><answer>116014</answer>"',NULL,1,NULL,2,6,NULL);
INSERT INTO "turns" VALUES(33,3,14,13,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15BC9872BEA4339BBEF1BB8CBE5A064CBE494BC7BE57B1CBBDFBA8B7BE371064BD6D9A6FBFE9E42ABE2FF9FEBE33F8FCBD81753EBF757A90BEFBDDF0BE63859DBE4651F4BE7A8A25BFEFBD19BF6D9752BF275F67BF749D55BD5C5B3CBF22E77CBF','stop','scripted',7404717266801124056,'text','"<verdict>right</verdict>"',NULL,1,NULL,2,10,NULL);
INSERT INTO "turns" VALUES(34,3,15,1,NULL,'solve','solver',6,'<think>a=57914; b=58007</think><answer>116014</answer>',54,X'113C7468696E6B3E613D35373931343B20623D35383030373C2F7468696E6B3E3C616E737765723E3131363031343C2F616E737765723E',X'152AB841BFF16A77BF126BC5BB835414BF99B79EBEBDAEF2BE1E0A71BF2C5CDBBD27EF7CBFEEC06FBF8A02F9BE2ED75BBF12CFF5BE901E45BFE45185BDF0CC9CBE2F6FD5BE4235D7BD9176B2BE856A3FBE0F200ABD8A5850BFB49B53BFE1DB4EBF48EAE1BECF7086BE6AD08BBE30A53BBE762ADCBEE12C2EB8996043BF989C40BF3F09ECBD5B30BCBE50DDE4BDC6D8C1BE2E9C20BD2F934BBF92F653BD906FA5BDE2626BBF45B353BD51E121BFE4984ABF89D91ABFE4E242BF4AD713BEB3F22FBE0F594FBF9875D2BE2866C4BEBC5B83BC097E0ABF109A1EBF','stop','scripted',7013086617382533214,'text','"<think>a=57914; b=58007</think><answer>116014</answer>"',NULL,1,NULL,2,6,NULL);
INSERT INTO "turns" VALUES(35,3,16,15,NULL,'judge','critic',0,'<verdict>right</verdict>',24,X'113C766572646963743E72696768743C2F766572646963743E',X'15A6DCB1BE26D843BF3BD65EBFF98BF2BE90018ABE1B79F9BE4CB8EEBD8D7A76BF5C6EA1BE700D9FBEF79E82BEBACE62BFD3275EBFE25F50BFDCA4AEBEC7F202BE3E32C9BE7DFA7EBE343178BE015B3ABFFD250DBF6C5A43BF807314BF966D21BF','stop','scripted',2906155148267574180,'text','"<verdict>right</verdict>"',NULL,1,NULL,2,10,NULL);
INSERT INTO "turns" VALUES(36,4,0,NULL,NULL,'propose','teacher',0,'print(',6,X'117072696E7428',X'15B75609BFED6198BECC2F27BF320069BD345769BFA7480CBF','stop','scripted',1065755918169968890,'text','"print("',NULL,NULL,NULL,2,1,NULL);
CREATE INDEX ix_runs_scenario_id ON runs (scenario_id);
CREATE INDEX ix_steps_policy_version ON steps (run_id, policy_version);
CREATE INDEX ix_policy_versions_step_id ON policy_versions (step_id);
CREATE INDEX ix_tasks_parent_id ON tasks (parent_id);
CREATE INDEX ix_tasks_run_key ON tasks (run_id, "key");
CREATE INDEX ix_segments_step_id ON segments (step_id);
CREATE INDEX ix_turns_context_id ON turns (context_id);
CREATE INDEX ix_turns_policy_version_id ON turns (policy_version_id);
CREATE INDEX ix_turns_train_context_id ON turns (train_context_id);
CREATE INDEX ix_criterion_scores_criterion_id ON criterion_scores (criterion_id);
CREATE INDEX ix_advantages_step_group ON advantages (step_id, "group");
CREATE VIEW v_steps AS 
SELECT 'r' || s.run_id AS run, s.number AS step,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id) AS episodes,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id AND e.ending = 'broke') AS broken,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id AND e.ending = 'refused') AS refused,
  (SELECT count(*) FROM episodes e JOIN turns t ON t.episode_id = e.id WHERE e.step_id = s.id) AS turns,
  (SELECT sum(t.n_tokens) FROM episodes e JOIN turns t ON t.episode_id = e.id WHERE e.step_id = s.id) AS tokens,
  (SELECT avg(a.reward) FROM advantages a WHERE a.step_id = s.id) AS reward,
  (SELECT sum(abs(a.pull)) FROM advantages a WHERE a.step_id = s.id) AS pull,
  (SELECT count(*) FROM groups g WHERE g.step_id = s.id) AS groups,
  (SELECT count(*) FROM groups g WHERE g.step_id = s.id AND g.kept) AS groups_kept,
  s.policy_version, p.weights_sha, c.path AS checkpoint, s.metrics, s.seconds, s.saved_at
FROM steps s
JOIN policy_versions p ON p.run_id = s.run_id AND p.number = s.policy_version
LEFT JOIN checkpoints c ON c.step_id = s.id;
CREATE VIEW v_episodes AS 
SELECT 'r' || s.run_id || '/' || s.number || '/' || e.number AS episode, 'r' || s.run_id AS run, s.number AS step, c.arm, e.parameters, e.ending, e.reward,
  (SELECT k.summary FROM tasks k WHERE k.episode_id = e.id ORDER BY k.number LIMIT 1) AS task,
  (SELECT count(*) FROM tasks k WHERE k.episode_id = e.id) AS tasks,
  (SELECT count(*) FROM turns t WHERE t.episode_id = e.id) AS turns,
  (SELECT sum(t.n_tokens) FROM turns t WHERE t.episode_id = e.id) AS tokens,
  (SELECT sum(abs(a.pull)) FROM turns t JOIN advantages a ON a.turn_id = t.id WHERE t.episode_id = e.id) AS pull,
  (SELECT count(*) FROM turns t JOIN scores x ON x.turn_id = t.id
     WHERE t.episode_id = e.id AND x.validity = 'invalid') AS invalid,
  e.error, e.seconds, e.hash, e.id AS episode_id
FROM episodes e
JOIN steps s ON s.id = e.step_id
JOIN curriculum_events c ON c.step_id = e.step_id AND c.number = e.pick;
CREATE VIEW v_turns AS 
SELECT 'r' || s.run_id || '/' || s.number || '/' || e.number AS episode, 'r' || s.run_id AS run, s.number AS step, t.number AS turn, t.parent, t.follows,
  t.node, t.author, t.sample, t.said, t.parsed_kind, t.parsed_problem, t.finish,
  x.text AS context, x.n_tokens AS context_tokens, t.n_tokens AS tokens,
  (SELECT group_concat(y.name || '=' || coalesce(round(y.value, 4), y.validity), ' ')
     FROM scores y WHERE y.turn_id = t.id) AS scores,
  f.reason AS refused, a.reward, a.value AS advantage, a.pull,
  coalesce(k.key, t.task_key) AS task_key, p.number AS policy_version, t.engine
FROM turns t
JOIN episodes e ON e.id = t.episode_id
JOIN steps s ON s.id = e.step_id
JOIN policy_versions p ON p.id = t.policy_version_id
LEFT JOIN segments x ON x.id = t.context_id
LEFT JOIN tasks k ON k.episode_id = t.episode_id AND k.number = t.task
LEFT JOIN advantages a ON a.turn_id = t.id
LEFT JOIN refusals f ON f.turn_id = t.id;
CREATE VIEW v_rewards AS 
SELECT 'r' || s.run_id AS run, s.number AS step, t.author AS role, x.name AS score, count(*) AS n,
  sum(x.validity = 'valued') AS valued, sum(x.validity = 'invalid') AS invalid, sum(x.validity = 'missing') AS missing,
  avg(x.value) AS mean, min(x.value) AS low, max(x.value) AS high
FROM steps s
JOIN episodes e ON e.step_id = s.id
JOIN turns t ON t.episode_id = e.id
JOIN scores x ON x.turn_id = t.id
GROUP BY s.run_id, s.number, t.author, x.name;
CREATE VIEW v_curriculum AS 
SELECT 'r' || s.run_id AS run, s.number AS step, c.number AS pick, c.arm, c.parameters, c.count,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id AND e.pick = c.number) AS episodes,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id AND e.pick = c.number AND e.ending = 'refused') AS refused,
  (SELECT avg(e.reward) FROM episodes e WHERE e.step_id = s.id AND e.pick = c.number) AS reward,
  s.curriculum_state AS state_after
FROM curriculum_events c
JOIN steps s ON s.id = c.step_id;
CREATE VIEW v_rubrics AS 
SELECT 'r' || s.run_id || '/' || s.number || '/' || e.number AS episode, 'r' || s.run_id AS run, s.number AS step, r.turn AS rubric_turn,
  coalesce(w.author, 'task') AS written_by, r.version, r.provenance, k.key AS task_key, k.summary AS task,
  c.number AS criterion, c.text, c.points, c.kind, c.checker,
  (SELECT count(*) FROM criterion_scores x WHERE x.criterion_id = c.id) AS judged,
  (SELECT avg(x.share) FROM criterion_scores x WHERE x.criterion_id = c.id) AS pass_rate,
  (SELECT count(*) FROM criterion_scores x WHERE x.criterion_id = c.id AND x.validity = 'invalid') AS invalid
FROM rubrics r
JOIN episodes e ON e.id = r.episode_id
JOIN steps s ON s.id = e.step_id
JOIN turns h ON h.episode_id = r.episode_id AND h.number = r.turn
LEFT JOIN turns w ON w.episode_id = r.episode_id AND w.number = r.author
LEFT JOIN tasks k ON k.episode_id = r.episode_id AND k.number = h.task
LEFT JOIN criteria c ON c.rubric_id = r.id;
CREATE VIEW v_lineage AS 
SELECT 'r' || s.run_id AS run, s.number AS step, 'r' || s.run_id || '/' || s.number || '/' || e.number AS episode, t.number AS turn, a.role, t.node, t.sample,
  round(a.value, 4) AS advantage, round(a.pull, 6) AS pull, round(a.reward, 4) AS reward, a.weight, a.n_tokens,
  g.number AS group_number, g.scope AS group_scope, g.size AS group_size, round(g.mean, 4) AS group_mean,
  round(g.std, 4) AS group_std,
  x.name AS score, round(x.value, 4) AS value, x.validity, x.by AS judged_by, x.note,
  c.text AS criterion, c.points AS criterion_points, y.share AS criterion_share, y.validity AS criterion_validity,
  y.by AS criterion_by, y.rubric_turn, w.author AS rubric_by,
  replace(substr(t.said, 1, 60), char(10), ' ') AS said, k.key AS task_key, k.summary AS task, k.origin AS task_origin,
  k.origin_turn, k.parent_key AS parent_task, q.summary AS parent_summary,
  d.arm, d.parameters, p.number AS sampled_by_version, s.policy_version AS made_version
FROM advantages a
JOIN steps s ON s.id = a.step_id
JOIN turns t ON t.id = a.turn_id
JOIN episodes e ON e.id = t.episode_id
JOIN groups g ON g.step_id = a.step_id AND g.number = a."group"
JOIN curriculum_events d ON d.step_id = e.step_id AND d.number = e.pick
JOIN policy_versions p ON p.id = t.policy_version_id
LEFT JOIN scores x ON x.turn_id = t.id
LEFT JOIN criterion_scores y ON y.score_id = x.id
LEFT JOIN criteria c ON c.id = y.criterion_id
LEFT JOIN rubrics r ON r.id = c.rubric_id
LEFT JOIN turns w ON w.episode_id = r.episode_id AND w.number = r.author
LEFT JOIN tasks k ON k.episode_id = e.id AND k.number = coalesce(
  (SELECT min(z.number) FROM tasks z WHERE z.episode_id = e.id AND z.origin_turn = t.number), t.task)
LEFT JOIN tasks q ON q.id = k.parent_id;
COMMIT;
