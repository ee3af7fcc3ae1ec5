"""The only code that touches Postgres or the search engine.

Everything that must survive a crash lives behind these modules; the rest of the cluster holds nothing that
cannot be lost.
"""
