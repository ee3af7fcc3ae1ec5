"""The guards of a search engine beside Postgres: it is never ahead of the truth, behind it for good, or another's."""

from tests.chaos.guards_trial import Guard

FOLLOWER = "cluster/store/opensearch/sync.py"
INDEXES = "cluster/store/opensearch/rebuild.py"
INDEX = "cluster/store/opensearch/index.py"
FORGETTING = "cluster/store/videos/deletion.py"
SCENES = "cluster/store/videos/scenes.py"
CHANGES = "cluster/store/index/outbox.py"
BOUNDS = "sql/migrations/051_bound_outbox_and_vector_tables.sql"

_FOLLOWED = "tests/integration/test_index_follower.py::"
_CHECKED = "tests/integration/test_index_check.py::"
_FOUND = "tests/integration/test_search_index.py::"

ENGINE = [
    Guard(
        "engine: what is older is refused",
        FOLLOWER,
        ', "version": document.version, "version_type": "external_gte"}',
        "}",
        (f"{_FOLLOWED}test_late_write_does_not_restore_forgotten_scenes",),
    ),
    Guard(
        "engine: an index that was removed is not made anew",
        FOLLOWER,
        ", require_alias=True)",
        ")",
        (f"{_FOLLOWED}test_a_write_that_comes_late_does_not_bring_an_index_back",),
    ),
    Guard(
        "engine: what changes meanwhile is followed",
        FOLLOWER,
        "left &= versions.keys() - self._changes.note_followed(versions)",
        "left = self._changes.note_followed(versions) & set()",
        (f"{_FOLLOWED}test_what_changes_while_it_is_followed_is_followed_too",),
    ),
    Guard(
        "engine: scenes are noted where they are written",
        SCENES,
        "            enqueue_index_update(connection, video_id, len(scenes))\n",
        "",
        (f"{_FOLLOWED}test_followed_video_is_found_and_a_repeat_changes_nothing",),
    ),
    Guard(
        "engine: what is forgotten is noted",
        FORGETTING,
        "    FROM found WHERE c.video_id = found.video_id\n",
        "    FROM found WHERE c.video_id = found.video_id AND false\n",
        (f"{_FOLLOWED}test_late_write_does_not_restore_forgotten_scenes",),
    ),
    Guard(
        "engine: scenes that others wrote can be forgotten",
        CHANGES,
        "            connection.execute(_WIDEN, values)\n",
        "",
        (f"{_FOLLOWED}test_other_systems_scene_is_forgotten_with_its_video[followed]",),
    ),
    Guard(
        "engine: no index is too large",
        CHANGES,
        'NUMBERED: LiteralString = "s.index BETWEEN 0 AND 99999"',
        'NUMBERED: LiteralString = "s.index IS NOT NULL"',
        (f"{_FOLLOWED}test_outbox_of_an_existing_database_takes_any_index[2147483647]",),
    ),
    Guard(
        "engine: the database bounds the documents of a video",
        BOUNDS,
        "CHECK (most_scenes BETWEEN 0 AND 100000)",
        "CHECK (most_scenes >= 0)",
        (f"{_FOLLOWED}test_outbox_refuses_more_documents_than_a_video_may_have",),
    ),
    Guard(
        "engine: so many documents are read at once",
        CHANGES,
        "if portion and documents + row",
        "if portion and 0 * row",
        (f"{_FOLLOWED}test_many_scenes_are_followed_video_by_video",),
    ),
    Guard(
        "engine: documents of no scene go",
        "cluster/store/opensearch/verify.py",
        "            self._delete_unnumbered(some)\n",
        "",
        (f"{_CHECKED}test_documents_of_no_scene_that_can_have_one_are_removed[-1]",),
    ),
    Guard(
        "engine: everybody finds their own",
        INDEX,
        '= [{"term": {"owner_id": str(scope.owner_id)}}]',
        "= []",
        (f"{_FOUND}test_only_the_scope_is_searched[opensearch-short]",),
    ),
    Guard(
        "engine: one builds at a time",
        INDEXES,
        "            if not held:\n",
        "            if held is None:\n",
        (f"{_CHECKED}test_one_builds_at_a_time",),
    ),
    Guard(
        "engine: another cluster's index is not taken",
        INDEXES,
        "            self._check_alias_owned(alias)\n",
        "",
        (f"{_FOLLOWED}test_another_clusters_index_is_not_taken",),
    ),
    Guard(
        "engine: what is erased is followed",
        "cluster/store/videos/erasing.py",
        "    WHERE c.video_id = e.id AND (c.version = c.indexed_version OR NOT EXISTS (SELECT FROM search_indexes))\n",
        "    WHERE c.video_id = e.id\n",
        (f"{_FOLLOWED}test_nothing_of_an_erased_owner_is_left_in_the_index",),
    ),
    Guard(
        "engine: a server that hangs is given up in time",
        INDEX,
        "                request_timeout=self._timeout_s + ANSWER_SLACK_S,\n",
        "",
        (f"{_FOLLOWED}test_search_of_a_server_that_hangs_is_given_up_in_time",),
    ),
]
