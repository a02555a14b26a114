"""Alembic's entry: runs the migrations on the connection that `feedback/store/database.py` hands over."""

from alembic import context

from headwater.feedback.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,  # SQLite's DDL is transactional too: a kill in the middle leaves the old schema whole
    render_as_batch=True,  # SQLite cannot alter most columns in place
)
with context.begin_transaction():
    context.run_migrations()
