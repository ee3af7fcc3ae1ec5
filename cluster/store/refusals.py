"""What the rules of a database refuse, as one sentence: many of an existing database's are not this product's.

Owns which errors of Postgres are a rule's (constraints, triggers that raise, rights), not what is done about them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors

from cluster.contracts.errors import RefusedByDatabase


@contextmanager
def refused_in_one_sentence(what: str) -> Iterator[None]:
    """Raise ``RefusedByDatabase`` where a rule refuses what the block writes; ``what``: "videos of ...", for people."""
    try:
        yield
    except (errors.IntegrityError, errors.InsufficientPrivilege, errors.RaiseException) as error:
        raise RefusedByDatabase(f"a rule of the database refuses {what}: {error.diag.message_primary}") from error
