"""``heimdex reembed`` where nothing is embedded: going back, dropping, and what is refused."""

from cluster.contracts.search import Retriever
from cluster.store.index.model_registry import IndexedModel, SearchModels
from cluster.store.postgres.connections import Pool
from tests.support.api_client import Heimdex

CONFIGURED = IndexedModel("ViT-B-32/laion2b_s34b_b79k@laion2b_s34b_b79k", "ViT-B-32", "laion2b_s34b_b79k", 512)
OTHER = IndexedModel("ViT-B-16/openai@openai", "ViT-B-16", "openai", 512)


def change(models: SearchModels, before: IndexedModel, after: IndexedModel) -> None:
    models.adopt(Retriever.PICTURE, before)
    models.begin(Retriever.PICTURE, after)
    models.switch({Retriever.PICTURE: after.key})


def test_without_a_change_there_is_no_way_back(heimdex: Heimdex) -> None:
    refused = heimdex("reembed", "--rollback")
    assert refused.returncode == 2
    assert refused.stderr.startswith(b"error: there are no previous models: nothing was embedded again, or the old")


def test_options_that_contradict_each_other_are_refused(heimdex: Heimdex) -> None:
    for options, sentence in (
        (("--pretrained", "openai"), b"--pretrained is for --vision"),
        (("--rollback", "--drop-old"), b"--rollback and --drop-old take no other option"),
        (("--rollback", "--text", "bundled"), b"--rollback and --drop-old take no other option"),
    ):
        refused = heimdex("reembed", *options)
        assert refused.returncode == 2
        assert sentence in b" ".join(refused.stderr.split())


def test_a_model_that_is_none_changes_nothing(heimdex: Heimdex, pool: Pool) -> None:
    SearchModels(pool).adopt(Retriever.PICTURE, CONFIGURED)
    refused = heimdex("reembed", "--vision", "ViT-Nonesuch")
    assert refused.returncode == 2
    assert b"ViT-Nonesuch: neither a directory, nor bundled, nor an architecture" in refused.stderr
    assert SearchModels(pool).active() == {Retriever.PICTURE: CONFIGURED}


def test_old_vectors_stay_while_the_settings_name_their_model(heimdex: Heimdex, pool: Pool) -> None:
    models = SearchModels(pool)
    change(models, CONFIGURED, OTHER)
    refused = heimdex("reembed", "--drop-old", settings={"HEIMDEX_CLIP_MODEL": CONFIGURED.name})
    assert refused.returncode == 2
    assert b"HEIMDEX_CLIP_MODEL and HEIMDEX_CLIP_PRETRAINED: still ViT-B-32, by which nothing could" in refused.stderr
    models.rollback()
    dropped = heimdex("reembed", "--drop-old")
    assert (dropped.returncode, dropped.stdout) == (0, b"0 old vectors were dropped\n")


def test_settings_that_name_no_model_keep_no_old_vectors(heimdex: Heimdex, pool: Pool) -> None:
    """A start without a named model goes on with the one whose vectors are stored."""
    change(SearchModels(pool), CONFIGURED, OTHER)
    dropped = heimdex("reembed", "--drop-old")
    assert (dropped.returncode, dropped.stdout) == (0, b"0 old vectors were dropped\n")
