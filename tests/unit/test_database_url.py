"""A URL that says that a pooler is in front, and what the settings make of it."""

import pytest

from cluster.contracts.database_url import DatabaseUrl
from cluster.contracts.errors import ConfigurationError
from cluster.settings import load_settings

URLS = ["postgresql://a@h/d", "postgresql://a:p?w@h:6543/d", "postgresql://a@/d?host=/tmp/x&port=5432", "postgres://h"]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("direct", [None, "postgresql://a:b&c?d=e@h/d?host=/x&pooler=transaction"])
def test_database_url_survives_its_text(url: str, direct: str | None) -> None:
    way = DatabaseUrl(url, pooled=True, direct=direct)
    assert DatabaseUrl.read(str(way)) == way
    assert DatabaseUrl.read(url) == DatabaseUrl(url)


def test_settings_name_the_pooler_once() -> None:
    plain = "postgresql://a@h/d"
    settings = load_settings(database_url=plain, database_pooler="transaction", database_direct_url="postgresql://x/d")
    resolved = settings.resolved_database_url
    assert resolved is not None
    assert DatabaseUrl.read(resolved) == DatabaseUrl(plain, True, "postgresql://x/d")
    again = load_settings(database_url=resolved, database_pooler="transaction")
    assert again.resolved_database_url == resolved
    assert load_settings(database_url=plain).resolved_database_url == plain


@pytest.mark.parametrize(
    "wrong",
    [
        {"database_direct_url": "postgresql://x/d", "database_url": "postgresql://x/d"},
        {"database_pooler": "transaction"},
        {"database_pooler": "session", "database_url": "postgresql://x/d"},
    ],
)
def test_pooler_settings_that_contradict_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="HEIMDEX_DATABASE_"):
        load_settings(**wrong)
