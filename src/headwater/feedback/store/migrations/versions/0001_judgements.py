"""The first schema: prompts, responses, tasks, annotators, judgements of all kinds, derived rankings, events.

Written out in full, and not taken from `schema.py`: a migration must make the same tables for ever.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KINDS = "('rating', 'ranking', 'pair')"
ROLES = "('annotator', 'adjudicator', 'admin', 'anonymous', 'simulated')"
APPEND_ONLY = ("prompt", "response", "judgement", "derived_ranking", "event")


WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    create_questions()
    create_judgements()
    for table in APPEND_ONLY:
        refuse_changes(table)


def identifier(name: str = "id") -> "sa.Column[int]":
    return sa.Column(name, WHOLE, autoincrement=False, nullable=False)


def whole(name: str, nullable: bool = False) -> "sa.Column[int]":
    return sa.Column(name, WHOLE, nullable=nullable)


def text(name: str, nullable: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.Text(), nullable=nullable)


def reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"))


def primary_key(table: str, column: str = "id") -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(column, name=op.f(f"pk_{table}"))


def create_questions() -> None:
    """What is judged and by whom: prompt, response, annotator, task."""
    op.create_table("prompt", identifier(), text("conversation"), text("source"), text("split"), primary_key("prompt"))
    op.create_index(op.f("ix_prompt_split_source"), "prompt", ["split", "source"])
    op.create_table(
        "response",
        identifier(),
        whole("prompt_id"),
        text("model", nullable=True),
        text("sampling", nullable=True),
        whole("seed", nullable=True),
        text("text"),
        text("origin", nullable=True),
        reference("response", "prompt_id", "prompt"),
        primary_key("response"),
    )
    op.create_index(op.f("ix_response_prompt_id"), "response", ["prompt_id"])
    op.create_table(
        "annotator",
        identifier(),
        text("name"),
        text("role"),
        text("token_hash", nullable=True),
        sa.CheckConstraint(f"role IN {ROLES}", name=op.f("ck_annotator_role")),
        primary_key("annotator"),
        sa.UniqueConstraint("name", name=op.f("uq_annotator_name")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_annotator_token_hash")),
    )
    op.create_table(
        "task",
        identifier(),
        text("kind"),
        whole("prompt_id"),
        text("responses"),
        text("shown"),
        sa.Column("priority", sa.Double(), nullable=False),
        whole("leased_to", nullable=True),
        whole("leased_until", nullable=True),
        sa.CheckConstraint(f"kind IN {KINDS}", name=op.f("ck_task_kind")),
        reference("task", "prompt_id", "prompt"),
        reference("task", "leased_to", "annotator"),
        primary_key("task"),
    )
    op.create_index(op.f("ix_task_prompt_id"), "task", ["prompt_id"])


def create_judgements() -> None:
    """What was said, what is derived from it, and the diary."""
    op.create_table(
        "judgement",
        identifier(),
        text("kind"),
        whole("prompt_id"),
        whole("task_id", nullable=True),
        whole("annotator_id"),
        whole("response_id", nullable=True),
        text("ranking", nullable=True),
        sa.Column("strength", sa.Double(), nullable=True),
        text("axes", nullable=True),
        text("edit", nullable=True),
        text("flags", nullable=True),
        text("note", nullable=True),
        whole("milliseconds", nullable=True),
        text("client_id"),
        whole("supersedes", nullable=True),
        whole("made"),
        sa.CheckConstraint(f"kind IN {KINDS}", name=op.f("ck_judgement_kind")),
        reference("judgement", "prompt_id", "prompt"),
        reference("judgement", "task_id", "task"),
        reference("judgement", "annotator_id", "annotator"),
        reference("judgement", "response_id", "response"),
        reference("judgement", "supersedes", "judgement"),
        primary_key("judgement"),
        sa.UniqueConstraint("client_id", name=op.f("uq_judgement_client_id")),
        sa.UniqueConstraint("supersedes", name=op.f("uq_judgement_supersedes")),
    )
    op.create_index(op.f("ix_judgement_prompt_id"), "judgement", ["prompt_id"])
    op.create_index(op.f("ix_judgement_response_id"), "judgement", ["response_id"])
    op.create_table(
        "derived_ranking",
        identifier(),
        whole("prompt_id"),
        text("ranking"),
        text("method"),
        text("settings"),
        text("judgements"),
        reference("derived_ranking", "prompt_id", "prompt"),
        primary_key("derived_ranking"),
    )
    op.create_index(op.f("ix_derived_ranking_prompt_id"), "derived_ranking", ["prompt_id"])
    op.create_table(
        "event",
        identifier("sequence"),
        text("kind"),
        text("payload"),
        whole("made"),
        text("previous"),
        text("hash"),
        primary_key("event", "sequence"),
    )


def refuse_changes(table: str) -> None:
    """Rows of `table` can be added, and neither changed nor removed, whoever holds the connection."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_append_only()"
        )
        return
    for action in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
