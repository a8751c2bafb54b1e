CREATE TABLE alerts (
	id VARCHAR(64) NOT NULL,
	rule_id VARCHAR(64) NOT NULL,
	run_id VARCHAR(512) NOT NULL,
	rule_name TEXT NOT NULL,
	severity VARCHAR(16) NOT NULL,
	statistic TEXT NOT NULL,
	condition VARCHAR(16) NOT NULL,
	threshold DOUBLE NOT NULL,
	opened_step BIGINT NOT NULL,
	opened_time DOUBLE NOT NULL,
	cleared_step BIGINT,
	cleared_time DOUBLE,
	peak DOUBLE,
	count INTEGER NOT NULL,
	worst TEXT NOT NULL,
	acknowledged BOOLEAN NOT NULL,
	note TEXT NOT NULL,
	sentence TEXT NOT NULL,
	reason TEXT NOT NULL,
	muted_until DOUBLE,
	CONSTRAINT pk_alerts PRIMARY KEY (id)
);

CREATE INDEX ix_alerts_cleared_step_opened_time ON alerts (cleared_step, opened_time);

CREATE INDEX ix_alerts_rule_id ON alerts (rule_id);

CREATE INDEX ix_alerts_run_id_opened_time ON alerts (run_id, opened_time);

CREATE TABLE audit (
	id INTEGER NOT NULL,
	time DOUBLE NOT NULL,
	who VARCHAR(128) NOT NULL,
	address VARCHAR(64) NOT NULL,
	what VARCHAR(128) NOT NULL,
	target VARCHAR(512) NOT NULL,
	CONSTRAINT pk_audit PRIMARY KEY (id)
);

CREATE TABLE blocks (
	id INTEGER NOT NULL,
	run_no BIGINT NOT NULL,
	series INTEGER NOT NULL,
	segment INTEGER NOT NULL,
	level INTEGER NOT NULL,
	first_step BIGINT NOT NULL,
	last_step BIGINT NOT NULL,
	body BLOB NOT NULL,
	CONSTRAINT pk_blocks PRIMARY KEY (id)
);

CREATE UNIQUE INDEX ix_blocks_run_no_series_segment_level_first_step_last_step ON blocks (run_no, series, segment, level, first_step, last_step);

CREATE TABLE channels (
	id VARCHAR(64) NOT NULL,
	name TEXT NOT NULL,
	kind VARCHAR(16) NOT NULL,
	address TEXT NOT NULL,
	secret TEXT NOT NULL,
	least VARCHAR(16) NOT NULL,
	enabled BOOLEAN NOT NULL,
	created_at DOUBLE NOT NULL,
	updated_at DOUBLE NOT NULL,
	last_sent DOUBLE,
	last_error TEXT NOT NULL,
	CONSTRAINT pk_channels PRIMARY KEY (id)
);

CREATE TABLE counters (
	name VARCHAR(64) NOT NULL,
	value BIGINT NOT NULL,
	CONSTRAINT pk_counters PRIMARY KEY (name)
);

CREATE TABLE health (
	run_id VARCHAR(512) NOT NULL,
	segment INTEGER NOT NULL,
	summary TEXT NOT NULL,
	fed TEXT NOT NULL,
	state BLOB NOT NULL,
	CONSTRAINT pk_health PRIMARY KEY (run_id)
);

CREATE TABLE incidents (
	run_id VARCHAR(512) NOT NULL,
	id VARCHAR(64) NOT NULL,
	kind VARCHAR(32) NOT NULL,
	severity VARCHAR(16) NOT NULL,
	first_step BIGINT NOT NULL,
	opened_step BIGINT NOT NULL,
	opened_time DOUBLE NOT NULL,
	closed_step BIGINT,
	body TEXT NOT NULL,
	CONSTRAINT pk_incidents PRIMARY KEY (run_id, id)
);

CREATE INDEX ix_incidents_run_id_opened_step ON incidents (run_id, opened_step);

CREATE TABLE lost (
	id INTEGER NOT NULL,
	run_no BIGINT NOT NULL,
	segment INTEGER NOT NULL,
	rank INTEGER NOT NULL,
	from_step BIGINT NOT NULL,
	to_step BIGINT NOT NULL,
	frames BIGINT NOT NULL,
	reason TEXT NOT NULL,
	CONSTRAINT pk_lost PRIMARY KEY (id)
);

CREATE INDEX ix_lost_run_no ON lost (run_no);

CREATE TABLE marks (
	revision BIGINT NOT NULL,
	run_no BIGINT NOT NULL,
	step BIGINT NOT NULL,
	time DOUBLE NOT NULL,
	kind VARCHAR(64) NOT NULL,
	data TEXT NOT NULL,
	CONSTRAINT pk_marks PRIMARY KEY (revision)
);

CREATE INDEX ix_marks_run_no_revision ON marks (run_no, revision);

CREATE TABLE notifications (
	id VARCHAR(64) NOT NULL,
	channel_id VARCHAR(64) NOT NULL,
	run_id VARCHAR(512) NOT NULL,
	alert_id VARCHAR(64) NOT NULL,
	kind VARCHAR(16) NOT NULL,
	severity VARCHAR(16) NOT NULL,
	title TEXT NOT NULL,
	text TEXT NOT NULL,
	link TEXT NOT NULL,
	created_at DOUBLE NOT NULL,
	due_at DOUBLE NOT NULL,
	attempts INTEGER NOT NULL,
	state VARCHAR(16) NOT NULL,
	error TEXT NOT NULL,
	CONSTRAINT pk_notifications PRIMARY KEY (id)
);

CREATE INDEX ix_notifications_run_id_created_at ON notifications (run_id, created_at);

CREATE INDEX ix_notifications_state_due_at ON notifications (state, due_at);

CREATE TABLE rule_states (
	rule_id VARCHAR(64) NOT NULL,
	run_id VARCHAR(512) NOT NULL,
	version INTEGER NOT NULL,
	step DOUBLE NOT NULL,
	data TEXT NOT NULL,
	CONSTRAINT pk_rule_states PRIMARY KEY (rule_id, run_id)
);

CREATE TABLE rules (
	id VARCHAR(64) NOT NULL,
	body TEXT NOT NULL,
	version INTEGER NOT NULL,
	updated_at DOUBLE NOT NULL,
	deleted_at DOUBLE,
	CONSTRAINT pk_rules PRIMARY KEY (id)
);

CREATE TABLE runs (
	no INTEGER NOT NULL,
	id VARCHAR(512) NOT NULL,
	project VARCHAR(512) NOT NULL,
	name VARCHAR(512) NOT NULL,
	key_hash VARCHAR(64) NOT NULL,
	state VARCHAR(16) NOT NULL,
	created_at DOUBLE NOT NULL,
	last_time DOUBLE NOT NULL,
	last_seen DOUBLE NOT NULL,
	first_step BIGINT NOT NULL,
	last_step BIGINT NOT NULL,
	steps BIGINT NOT NULL,
	steps_per_s DOUBLE NOT NULL,
	finished_at DOUBLE,
	reason TEXT NOT NULL,
	error TEXT,
	context TEXT NOT NULL,
	optimizers TEXT NOT NULL,
	cost TEXT NOT NULL,
	summary TEXT NOT NULL,
	lost_frames BIGINT NOT NULL,
	tags TEXT NOT NULL,
	notes TEXT NOT NULL,
	tensor_count INTEGER NOT NULL,
	CONSTRAINT pk_runs PRIMARY KEY (no),
	CONSTRAINT uq_runs_id UNIQUE (id)
);

CREATE INDEX ix_runs_project_created_at ON runs (project, created_at);

CREATE INDEX ix_runs_state_last_seen ON runs (state, last_seen);

CREATE TABLE schemas (
	stream_no BIGINT NOT NULL,
	id BIGINT NOT NULL,
	run_no BIGINT NOT NULL,
	statistics TEXT NOT NULL,
	rows BLOB NOT NULL,
	CONSTRAINT pk_schemas PRIMARY KEY (stream_no, id)
);

CREATE INDEX ix_schemas_run_no ON schemas (run_no);

CREATE TABLE segments (
	run_no BIGINT NOT NULL,
	idx INTEGER NOT NULL,
	id VARCHAR(512) NOT NULL,
	start_step BIGINT NOT NULL,
	started_at DOUBLE NOT NULL,
	CONSTRAINT pk_segments PRIMARY KEY (run_no, idx),
	CONSTRAINT uq_segments_run_no_id UNIQUE (run_no, id)
);

CREATE TABLE series (
	run_no BIGINT NOT NULL,
	idx INTEGER NOT NULL,
	rank INTEGER NOT NULL,
	scope VARCHAR(16) NOT NULL,
	name VARCHAR(512) NOT NULL,
	width INTEGER NOT NULL,
	dtype VARCHAR(2) NOT NULL,
	cadence INTEGER NOT NULL,
	logged BOOLEAN NOT NULL,
	CONSTRAINT pk_series PRIMARY KEY (run_no, idx),
	CONSTRAINT uq_series_run_no_rank_scope_name UNIQUE (run_no, rank, scope, name)
);

CREATE TABLE shares (
	id VARCHAR(64) NOT NULL,
	run_id VARCHAR(512) NOT NULL,
	token_hash VARCHAR(64) NOT NULL,
	created_at DOUBLE NOT NULL,
	expires_at DOUBLE,
	revoked_at DOUBLE,
	label TEXT NOT NULL,
	"view" TEXT NOT NULL,
	views BIGINT NOT NULL,
	last_seen DOUBLE,
	password_hash TEXT NOT NULL,
	CONSTRAINT pk_shares PRIMARY KEY (id),
	CONSTRAINT uq_shares_token_hash UNIQUE (token_hash)
);

CREATE INDEX ix_shares_run_id ON shares (run_id);

CREATE TABLE streams (
	no INTEGER NOT NULL,
	run_no BIGINT NOT NULL,
	stream VARCHAR(512) NOT NULL,
	rank INTEGER NOT NULL,
	segment INTEGER NOT NULL,
	next_seq BIGINT NOT NULL,
	fenced BOOLEAN NOT NULL,
	ended BOOLEAN NOT NULL,
	opened_at DOUBLE NOT NULL,
	CONSTRAINT pk_streams PRIMARY KEY (no),
	CONSTRAINT uq_streams_run_no_stream UNIQUE (run_no, stream)
);

CREATE TABLE tail (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	run_no BIGINT NOT NULL,
	segment INTEGER NOT NULL,
	rank INTEGER NOT NULL,
	last_step BIGINT NOT NULL,
	size INTEGER NOT NULL,
	body BLOB NOT NULL
);

CREATE INDEX ix_tail_run_no_segment_rank_id_last_step_size ON tail (run_no, segment, rank, id, last_step, size);

CREATE TABLE tensor_groups (
	run_no BIGINT NOT NULL,
	idx INTEGER NOT NULL,
	path TEXT NOT NULL,
	parent INTEGER NOT NULL,
	members BLOB NOT NULL,
	CONSTRAINT pk_tensor_groups PRIMARY KEY (run_no, idx)
);

CREATE TABLE tensors (
	run_no BIGINT NOT NULL,
	idx INTEGER NOT NULL,
	name VARCHAR(512) NOT NULL,
	shape TEXT NOT NULL,
	numel BIGINT NOT NULL,
	dtype VARCHAR(64) NOT NULL,
	depth INTEGER NOT NULL,
	module TEXT NOT NULL,
	kind VARCHAR(32) NOT NULL,
	trainable BOOLEAN NOT NULL,
	optimizer INTEGER NOT NULL,
	param_group INTEGER NOT NULL,
	fan_in BIGINT,
	init_std DOUBLE,
	sparse BOOLEAN NOT NULL,
	CONSTRAINT pk_tensors PRIMARY KEY (run_no, idx)
);

CREATE TABLE tokens (
	id VARCHAR(16) NOT NULL,
	name VARCHAR(128) NOT NULL,
	role VARCHAR(16) NOT NULL,
	"key" VARCHAR(64) NOT NULL,
	project VARCHAR(512) NOT NULL,
	created_at DOUBLE NOT NULL,
	expires_at DOUBLE,
	revoked_at DOUBLE,
	CONSTRAINT pk_tokens PRIMARY KEY (id)
);

CREATE TABLE trash (
	run_no BIGINT NOT NULL,
	CONSTRAINT pk_trash PRIMARY KEY (run_no)
);

CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));

INSERT INTO counters (name, value) VALUES ('revision', 0);

INSERT INTO alembic_version (version_num) VALUES ('0001');
