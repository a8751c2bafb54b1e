"""The first version of the tables, frozen: what was released once is never edited."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates everything."""
    _runs()
    _streams()
    _parts()
    _numbers()
    _events()
    _rules()
    _messages()
    _others()
    op.execute("INSERT INTO counters (name, value) VALUES ('revision', 0)")


def _runs() -> None:
    """What runs are."""
    op.create_table(
        "runs",
        sa.Column("no", _SERIAL, nullable=False),
        sa.Column("id", sa.String(length=512), nullable=False),
        sa.Column("project", sa.String(length=512), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_time", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("steps_per_s", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("optimizers", sa.Text(), nullable=False),
        sa.Column("cost", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("lost_frames", sa.BigInteger(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("tensor_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_runs"),
        sa.UniqueConstraint("id", name="uq_runs_id"),
    )
    op.create_index("ix_runs_project_created_at", "runs", ["project", "created_at"])
    op.create_index("ix_runs_state_last_seen", "runs", ["state", "last_seen"])


def _streams() -> None:
    """How they come in."""
    op.create_table(
        "segments",
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=512), nullable=False),
        sa.Column("start_step", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_no", "idx", name="pk_segments"),
        sa.UniqueConstraint("run_no", "id", name="uq_segments_run_no_id"),
    )
    op.create_table(
        "streams",
        sa.Column("no", _SERIAL, nullable=False),
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.String(length=512), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("next_seq", sa.BigInteger(), nullable=False),
        sa.Column("fenced", sa.Boolean(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_streams"),
        sa.UniqueConstraint("run_no", "stream", name="uq_streams_run_no_stream"),
    )
    op.create_table(
        "schemas",
        sa.Column("stream_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("statistics", sa.Text(), nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream_no", "id", name="pk_schemas"),
    )
    op.create_index("ix_schemas_run_no", "schemas", ["run_no"])


def _parts() -> None:
    """What runs consist of."""
    op.create_table(
        "tensors",
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("numel", sa.BigInteger(), nullable=False),
        sa.Column("dtype", sa.String(length=64), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("trainable", sa.Boolean(), nullable=False),
        sa.Column("optimizer", sa.Integer(), nullable=False),
        sa.Column("param_group", sa.Integer(), nullable=False),
        sa.Column("fan_in", sa.BigInteger()),
        sa.Column("init_std", sa.Double()),
        sa.Column("sparse", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_no", "idx", name="pk_tensors"),
    )
    op.create_table(
        "tensor_groups",
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("members", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_no", "idx", name="pk_tensor_groups"),
    )
    op.create_table(
        "series",
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.String(length=2), nullable=False),
        sa.Column("cadence", sa.Integer(), nullable=False),
        sa.Column("logged", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_no", "idx", name="pk_series"),
        sa.UniqueConstraint("run_no", "rank", "scope", "name", name="uq_series_run_no_rank_scope_name"),
    )


def _numbers() -> None:
    """Their numbers."""
    op.create_table(
        "tail",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tail"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_tail_run_no_segment_rank_id_last_step_size",
        "tail",
        ["run_no", "segment", "rank", "id", "last_step", "size"],
    )
    op.create_table(
        "blocks",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_blocks"),
    )
    op.create_index(
        "ix_blocks_run_no_series_segment_level_first_step_last_step",
        "blocks",
        ["run_no", "series", "segment", "level", "first_step", "last_step"],
        unique=True,
    )


def _events() -> None:
    """What happened."""
    op.create_table(
        "marks",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_marks"),
    )
    op.create_index("ix_marks_run_no_revision", "marks", ["run_no", "revision"])
    op.create_table(
        "lost",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("from_step", sa.BigInteger(), nullable=False),
        sa.Column("to_step", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lost"),
    )
    op.create_index("ix_lost_run_no", "lost", ["run_no"])
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.create_table(
        "trash",
        sa.Column("run_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("run_no", name="pk_trash"),
    )


def _rules() -> None:
    """Rules and what they found."""
    op.create_table(
        "rules",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
    )
    op.create_table(
        "rule_states",
        sa.Column("rule_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("step", sa.Double(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rule_id", "run_id", name="pk_rule_states"),
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("rule_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=512), nullable=False),
        sa.Column("rule_name", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("statistic", sa.Text(), nullable=False),
        sa.Column("condition", sa.String(length=16), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("opened_step", sa.BigInteger(), nullable=False),
        sa.Column("opened_time", sa.Double(), nullable=False),
        sa.Column("cleared_step", sa.BigInteger()),
        sa.Column("cleared_time", sa.Double()),
        sa.Column("peak", sa.Double()),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("worst", sa.Text(), nullable=False),
        sa.Column("acknowledged", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("muted_until", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_cleared_step_opened_time", "alerts", ["cleared_step", "opened_time"])
    op.create_index("ix_alerts_rule_id", "alerts", ["rule_id"])
    op.create_index("ix_alerts_run_id_opened_time", "alerts", ["run_id", "opened_time"])


def _messages() -> None:
    """Links and messages."""
    op.create_table(
        "shares",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=512), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("view", sa.Text(), nullable=False),
        sa.Column("views", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.Double()),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
        sa.UniqueConstraint("token_hash", name="uq_shares_token_hash"),
    )
    op.create_index("ix_shares_run_id", "shares", ["run_id"])
    op.create_table(
        "channels",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("least", sa.String(length=16), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("last_sent", sa.Double()),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_channels"),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("channel_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=512), nullable=False),
        sa.Column("alert_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
    )
    op.create_index("ix_notifications_run_id_created_at", "notifications", ["run_id", "created_at"])
    op.create_index("ix_notifications_state_due_at", "notifications", ["state", "due_at"])


def _others() -> None:
    """Health, tokens, and the log of changes."""
    op.create_table(
        "incidents",
        sa.Column("run_id", sa.String(length=512), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("opened_step", sa.BigInteger(), nullable=False),
        sa.Column("opened_time", sa.Double(), nullable=False),
        sa.Column("closed_step", sa.BigInteger()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "id", name="pk_incidents"),
    )
    op.create_index("ix_incidents_run_id_opened_step", "incidents", ["run_id", "opened_step"])
    op.create_table(
        "health",
        sa.Column("run_id", sa.String(length=512), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("fed", sa.Text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_health"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=512), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_table(
        "audit",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("what", sa.String(length=128), nullable=False),
        sa.Column("target", sa.String(length=512), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
