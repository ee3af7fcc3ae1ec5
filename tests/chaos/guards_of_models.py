"""The guards of the searched models: one per space, changed whole, and no process writes by another."""

from tests.chaos.guards_trial import Guard

MODELS = "cluster/store/index/model_registry.py"
VECTORS = "cluster/store/index/embeddings.py"
SCENES = "cluster/store/videos/scenes.py"
HOLDERS = "cluster/search/active_models.py"

_TESTS = "tests/integration/test_search_models.py::"
TABLES = "cluster/store/index/vector_tables.py"
_LENGTHS = "tests/integration/test_vector_tables.py::"
_HOLDERS = "tests/integration/test_active_models.py::"

SEARCHED = [
    Guard(
        "models: scenes by one that is active no longer",
        SCENES,
        "if active.get(by, model) != model:",
        "if active.get(by, model) is None:",
        (f"{_TESTS}test_scenes_of_a_model_no_longer_active_are_refused_whole",),
    ),
    Guard(
        "models: they stay active while scenes are written",
        MODELS,
        "LOCK TABLE search_models IN ROW SHARE MODE",
        "LOCK TABLE search_models IN ACCESS SHARE MODE",
        (f"{_TESTS}test_scenes_wait_for_the_switch_that_embeds_the_last",),
    ),
    Guard(
        "models: no switch while a vector is lacking",
        MODELS,
        "if not lacking or allow_missing:",
        "if lacking is not None or allow_missing:",
        (
            f"{_TESTS}test_switch_waits_for_the_last_scene_for_all_spaces_at_once",
            f"{_TESTS}test_a_switch_waits_for_a_writer_and_finds_what_it_wrote",
        ),
    ),
    Guard(
        "models: the first one fits the vectors that there are",
        MODELS,
        "OR EXISTS (SELECT FROM scene_vector_tables WHERE space = %(space)s AND model = %(model)s))",
        "OR true)",
        (f"{_TESTS}test_vectors_from_before_decide_which_model_can_be_the_first",),
    ),
    Guard(
        "models: a scene that was replaced meanwhile",
        VECTORS,
        "WHERE s.id = %s AND {made} = %s FOR",
        "WHERE s.id = %s AND 0 * {made} = 0 * %s FOR",
        (f"{_TESTS}test_replaced_scene_gets_no_vector_of_the_former_one",),
    ),
    Guard(
        "models: the same name with other weights",
        HOLDERS,
        "if loaded.key != model.key:",
        "if loaded.key is None:",
        (f"{_HOLDERS}test_the_same_name_with_other_weights_is_refused",),
    ),
    Guard(
        "models: vectors of another length than those that are stored",
        HOLDERS,
        "if loaded.dimensions != model.dimensions:",
        "if loaded.dimensions < 0:",
        (f"{_HOLDERS}test_loaded_model_of_another_length_is_refused",),
    ),
    Guard(
        "vectors: one model's among those of several in a table from before",
        TABLES,
        'sql.SQL("(SELECT scene_id, embedding FROM {} WHERE model = {})")',
        "sql.SQL(\"(SELECT scene_id, embedding FROM {} WHERE {} <> '')\")",
        (f"{_LENGTHS}test_vectors_from_before_stay_in_place_and_are_searched",),
    ),
    Guard(
        "vectors: numbers that are not finite",
        TABLES,
        "if not np.isfinite(vector).all():",
        "if False:",
        (f"{_LENGTHS}test_flawed_vector_is_refused_and_nothing_is_written[nan]",),
    ),
    Guard(
        "vectors: zeros, which no engine compares",
        TABLES,
        "if not vector.any():",
        "if False:",
        (f"{_LENGTHS}test_flawed_vector_is_refused_and_nothing_is_written[zeros]",),
    ),
]
