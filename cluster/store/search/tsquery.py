"""A query's words as PostgreSQL's full text search wants them."""

from psycopg import sql

from cluster.contracts.search import Clause, Match, WordsQuery

_CALLS = {
    Match.WORD: sql.SQL("plainto_tsquery({}, {})"),
    Match.PHRASE: sql.SQL("phraseto_tsquery({}, {})"),
    Match.PREFIX: sql.SQL("{1}::tsquery"),  # of words as they were typed, whatever the configuration
}


class TsQuery:
    """A ``WordsQuery`` as an expression of type tsquery, and the ``parameters`` that it names."""

    def __init__(self, query: WordsQuery) -> None:
        self._query = query
        clauses = [clause for clauses in query.alternatives for clause in clauses]
        self._names = {clause: f"clause_{number}" for number, clause in enumerate(clauses)}
        self.parameters = {name: _typed(clause) for clause, name in self._names.items()}

    def within(self, configuration: sql.Composable) -> sql.Composable:
        """The query in a text search configuration, an expression of type regconfig.

        What the configuration throws away of texts (its stop words) is thrown away of the query too.
        """
        return sql.SQL(" || ").join(
            sql.SQL("({})").format(sql.SQL(" && ").join(self._clause(clause, configuration) for clause in clauses))
            for clauses in self._query.alternatives
        )

    def _clause(self, clause: Clause, configuration: sql.Composable) -> sql.Composable:
        found = _CALLS[clause.match].format(configuration, sql.Placeholder(self._names[clause]))
        return sql.SQL("!!({})").format(found) if clause.negated else found


def _typed(clause: Clause) -> str:
    # A prefix is letters and digits only, so that nothing in it is an operator.
    return f"'{clause.text.lower()}':*" if clause.match is Match.PREFIX else clause.text
