"""Leases of their own, several judgements per task, gold questions, demonstrations, the order that was seen.

A task's one lease becomes the table `lease`; leases that stand are let go, nothing is lost by that. SQLite cannot change
constraints, so there `task` and `judgement` are made anew, written out in full: equal stores must be equal files.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KINDS = "('rating', 'ranking', 'pair', 'demonstration')"
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TASK = "id, kind, prompt_id, responses, shown, priority"
JUDGEMENT = (
    "id, kind, prompt_id, task_id, annotator_id, response_id, ranking, strength, axes, edit, flags, note, milliseconds, "
    "client_id, supersedes, made"
)
"""The columns that stay."""


def upgrade() -> None:
    op.add_column("annotator", whole("disabled"))
    if op.get_bind().dialect.name == "postgresql":
        alter_tables()
    else:
        make_anew("task", TASK, task_parts())
        make_anew("judgement", JUDGEMENT, judgement_parts())
        op.create_index(op.f("ix_task_prompt_id"), "task", ["prompt_id"])
        for column in ("prompt_id", "response_id"):
            op.create_index(op.f(f"ix_judgement_{column}"), "judgement", [column])
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER judgement_no_{action.lower()} BEFORE {action} ON judgement "
                "BEGIN SELECT RAISE(ABORT, 'judgement is append-only'); END"
            )
    for column in ("task_id", "annotator_id"):
        op.create_index(op.f(f"ix_judgement_{column}"), "judgement", [column])
    op.create_table(
        "lease",
        whole("task_id", nullable=False),
        whole("annotator_id", nullable=False),
        whole("until", nullable=False),
        reference("lease", "task_id", "task"),
        reference("lease", "annotator_id", "annotator"),
        sa.PrimaryKeyConstraint("task_id", "annotator_id", name=op.f("pk_lease")),
    )


def whole(name: str, nullable: bool = True) -> "sa.Column[int]":
    return sa.Column(name, WHOLE, autoincrement=False, nullable=nullable)


def text(name: str, nullable: bool = True) -> "sa.Column[str]":
    return sa.Column(name, sa.Text(), nullable=nullable)


def wanted() -> "sa.Column[int]":
    return sa.Column("wanted", WHOLE, server_default="1", nullable=False)


def reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"))


def kinds(table: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"kind IN {KINDS}", name=op.f(f"ck_{table}_kind"))


def alter_tables() -> None:
    for table in ("task", "judgement"):
        op.drop_constraint(op.f(f"ck_{table}_kind"), table, type_="check")
        op.create_check_constraint(op.f(f"ck_{table}_kind"), table, sa.text(f"kind IN {KINDS}"))
    op.drop_column("task", "leased_to")
    op.drop_column("task", "leased_until")
    op.add_column("task", wanted())
    op.add_column("task", text("gold"))
    op.add_column("judgement", text("shown"))
    op.add_column("judgement", whole("edit_of"))
    op.create_foreign_key(op.f("fk_judgement_edit_of"), "judgement", "response", ["edit_of"], ["id"])


def make_anew(table: str, columns: str, parts: "list[sa.schema.SchemaItem]") -> None:
    """The rows stay; indexes and triggers go with the old table. References of other tables are by name and stay, too."""
    op.create_table(f"new_{table}", *parts)
    op.execute(f"INSERT INTO new_{table} ({columns}) SELECT {columns} FROM {table} ORDER BY id")
    op.drop_table(table)
    op.rename_table(f"new_{table}", table)


def task_parts() -> "list[sa.schema.SchemaItem]":
    return [
        whole("id", nullable=False),
        text("kind", nullable=False),
        whole("prompt_id", nullable=False),
        text("responses", nullable=False),
        text("shown", nullable=False),
        sa.Column("priority", sa.Double(), nullable=False),
        wanted(),
        text("gold"),
        kinds("task"),
        reference("task", "prompt_id", "prompt"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    ]


def judgement_parts() -> "list[sa.schema.SchemaItem]":
    return [
        whole("id", nullable=False),
        text("kind", nullable=False),
        whole("prompt_id", nullable=False),
        whole("task_id"),
        whole("annotator_id", nullable=False),
        whole("response_id"),
        text("ranking"),
        sa.Column("strength", sa.Double(), nullable=True),
        text("axes"),
        text("edit"),
        text("flags"),
        text("note"),
        whole("milliseconds"),
        text("client_id", nullable=False),
        whole("supersedes"),
        whole("made", nullable=False),
        text("shown"),
        whole("edit_of"),
        kinds("judgement"),
        reference("judgement", "prompt_id", "prompt"),
        reference("judgement", "task_id", "task"),
        reference("judgement", "annotator_id", "annotator"),
        reference("judgement", "response_id", "response"),
        # A table of another name at this moment: SQLite looks the target up by name when it is used.
        reference("judgement", "supersedes", "judgement"),
        reference("judgement", "edit_of", "response"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgement")),
        sa.UniqueConstraint("client_id", name=op.f("uq_judgement_client_id")),
        sa.UniqueConstraint("supersedes", name=op.f("uq_judgement_supersedes")),
    ]
