"""The store's schema, version by version. Run by `feedback/store/database.py` on open; nobody needs an alembic.ini."""
