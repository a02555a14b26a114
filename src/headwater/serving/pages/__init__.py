"""The web pages: chat, judge, annotate, people, runs, lineage. Server-rendered HTML and small plain JavaScript.

`router(site)` in `routes.py` is all that an application joins.
"""
