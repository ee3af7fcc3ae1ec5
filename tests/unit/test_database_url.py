"""A URL that says that a pooler is in front, and what the settings make of it."""

import pytest

from cluster.contracts.database_url import DatabaseUrl, DatabaseUrls, with_user_of
from cluster.contracts.errors import ConfigurationError
from cluster.settings import ROLE_URLS, Settings, database_environment, load_settings

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
    resolved = urls_of(settings).worker
    assert DatabaseUrl.read(resolved) == DatabaseUrl(plain, True, "postgresql://x/d")
    again = load_settings(database_url=resolved, database_pooler="transaction")
    assert urls_of(again).worker == resolved
    assert urls_of(load_settings(database_url=plain)) == DatabaseUrls(plain, plain, plain, plain)


def urls_of(settings: Settings) -> DatabaseUrls:
    found = settings.database_urls
    assert found is not None
    return found


def test_role_url_replaces_the_default_of_its_role_alone() -> None:
    settings = load_settings(
        database_url="postgresql://a@h/d?sslmode=verify-full",
        api_database_url="postgresql://api@h/d?sslmode=verify-full",
        migrate_database_url="postgresql://owner@h/d",
    )
    urls = urls_of(settings)
    assert urls.worker == urls.reader == settings.database_url
    assert (urls.api, urls.migrate) == (settings.api_database_url, settings.migrate_database_url)
    assert "postgresql" not in repr(urls)


def test_role_url_behind_a_pooler_has_a_direct_way_of_its_role() -> None:
    settings = load_settings(
        database_url="postgresql://a:1@pool:6543/d",
        database_pooler="transaction",
        database_direct_url="postgresql://a:1@h:5432/d?sslmode=require",
        worker_database_url="postgresql://worker:2@pool:6543/d",
    )
    urls = urls_of(settings)
    assert DatabaseUrl.read(urls.worker).direct == "postgresql://worker:2@h:5432/d?sslmode=require"
    assert DatabaseUrl.read(urls.api).direct == settings.database_direct_url
    assert with_user_of("postgresql://h/d", "postgresql:///d") == "postgresql://h/d"


def test_role_url_without_a_default_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="HEIMDEX_API_DATABASE_URL: set it along with database_url"):
        load_settings(api_database_url="postgresql://api@h/d")


def test_environment_of_a_process_names_one_url_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ROLE_URLS:
        monkeypatch.setenv(f"HEIMDEX_{name.upper()}", "postgresql://owner@h/d")
    for name, value in database_environment("postgresql://worker@h/d").items():
        monkeypatch.setenv(name, value)
    assert len({*vars(urls_of(load_settings())).values()}) == 1


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
