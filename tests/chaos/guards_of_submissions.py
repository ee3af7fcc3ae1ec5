"""The guards around what owners do: turns, caps, priorities, what is theirs, what may be cancelled or tried again."""

from tests.chaos.guards_trial import Guard

QUEUE = "cluster/store/queue/video_queue.py"
SUBMISSIONS_FILE = "cluster/store/queue/submissions.py"
AGAIN = "cluster/store/queue/reprocessing.py"
REQUESTS = "cluster/store/queue/owner_requests.py"
VIDEOS = "cluster/contracts/videos.py"
API = "serve_app/routes/videos.py"
READS = "cluster/store/videos/videos.py"
INDEX = "cluster/store/search/postgres_index.py"

_FAIR = "tests/integration/test_queue_fairness.py::"
_OWNERS = "tests/integration/test_cancel_and_retry.py::"
_HTTP = "tests/integration/test_videos_api.py::"
_RATE = "tests/integration/test_api_limits.py::"
_RACES = "tests/integration/test_lease_races.py::"
_MEANWHILE = "tests/integration/test_submission_races.py::"
_OPEN_RUN = "tests/integration/test_open_runs.py::test_run_opened_while_its_lease_ends_is_closed_with_it[cancel]"
_OTHERS_CHANGE = f"{_HTTP}test_other_users_videos_cannot_be_cancelled_or_retried"
_OTHERS_SEE = f"{_HTTP}test_another_users_videos_are_as_if_they_did_not_exist"
_BAD = f"{_HTTP}test_a_bad_submission_is_400_and_nothing_is_enqueued"
_OTHERS_SCENES = "tests/integration/test_scene_guards.py::test_nobody_finds_anothers_scenes"
_INDEX_SUITE = "tests/integration/test_search_index.py::"

_FAIRNESS = [
    Guard(
        "owners take turns",
        QUEUE,
        "FROM candidates ORDER BY turn, due_at, video_id LIMIT",
        "FROM candidates ORDER BY due_at, video_id LIMIT",
        (f"{_FAIR}test_owners_take_turns_within_a_claim",),
    ),
    Guard(
        "what an owner received beyond the others counts",
        QUEUE,
        "coalesce(h.videos, 0) + coalesce(a.ahead, 0)\n               + row",
        "coalesce(h.videos, 0)\n               + row",
        (
            f"{_FAIR}test_of_owners_with_as_many_the_one_served_least_is_next",
            f"{_FAIR}test_a_video_that_an_owner_is_ahead_counts_as_one_in_flight",
        ),
    ),
    Guard(
        "urgent videos of owners take turns",
        QUEUE,
        "FROM urgent_candidates ORDER BY turn, due_at, video_id LIMIT",
        "FROM urgent_candidates ORDER BY due_at, video_id LIMIT",
        (f"{_FAIR}test_urgent_videos_of_owners_take_turns",),
    ),
    Guard(
        "an owner far ahead has no urgent videos",
        QUEUE,
        "    WHERE coalesce(a.ahead, 0) <= %(urgent_ahead)s\n",
        "",
        (f"{_FAIR}test_an_owner_far_ahead_has_no_urgent_videos",),
    ),
    Guard(
        "who has fewest on the way comes first",
        QUEUE,
        "coalesce(h.videos, 0) + coalesce(a.ahead, 0)\n               + row",
        "coalesce(a.ahead, 0)\n               + row",
        (f"{_FAIR}test_owner_with_fewest_in_flight_comes_first_everywhere",),
    ),
    Guard(
        "an owner's cap",
        QUEUE,
        "LIMIT least(%(limit)s, m.cap, greatest(%(owner_cap)s - coalesce(h.videos, 0), 0))",
        "LIMIT least(%(limit)s, m.cap)",
        (f"{_FAIR}test_an_owner_has_no_more_on_the_way_than_the_cap",),
    ),
    Guard(
        "an owner's cap counts what is on the way",
        QUEUE,
        "greatest(%(owner_cap)s - coalesce(h.videos, 0), 0)",
        "%(owner_cap)s",
        (f"{_FAIR}test_an_owner_has_no_more_on_the_way_than_the_cap",),
    ),
    Guard(
        "priorities",
        SUBMISSIONS_FILE,
        "queued_at - make_interval(secs => priority * %(step_s)s), moment",
        "queued_at - make_interval(secs => 0 * %(step_s)s), moment",
        (f"{_FAIR}test_a_higher_priority_goes_first",),
    ),
    Guard(
        "priorities age",
        QUEUE,
        "        ORDER BY p.due_at, p.video_id\n        LIMIT",
        "        ORDER BY p.priority DESC, p.due_at, p.video_id\n        LIMIT",
        (f"{_FAIR}test_priority_is_worth_a_time_and_no_more",),
    ),
    Guard(
        "a priority has bounds",
        VIDEOS,
        "ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY",
        "ge=-(10**6), le=10**6",
        ("tests/unit/test_submission_rules.py::test_a_priority_has_bounds",),
    ),
    Guard(
        "a retry keeps its place",
        QUEUE,
        "    available_at = clock_timestamp() + make",
        "    due_at = clock_timestamp(), available_at = clock_timestamp() + make",
        (f"{_FAIR}test_requeued_attempt_keeps_its_place_resubmission_does_not",),
    ),
]

_CHANGES = [
    Guard(
        "what is claimed meanwhile is not cancelled as if it waited",
        SUBMISSIONS_FILE,
        "WHERE v.id = ANY (%(ids)s) AND v.status = 'PENDING' AND p.available_at IS NOT NULL\n    ORDER",
        "WHERE v.id = ANY (%(ids)s)\n    ORDER",
        (f"{_OWNERS}test_video_claimed_while_cancelled_is_cancelled",),
    ),
    Guard(
        "cancelling locks the lease before its runs are closed",
        SUBMISSIONS_FILE,
        "ORDER BY lease_token FOR UPDATE",
        "ORDER BY lease_token",
        (_OPEN_RUN,),
    ),
    Guard(
        "cancelling is looked at again until none is left",
        SUBMISSIONS_FILE,
        "_CANCEL_ROUNDS = 5",
        "_CANCEL_ROUNDS = 1",
        (f"{_MEANWHILE}test_video_requeued_while_cancelled_is_cancelled",),
    ),
    Guard(
        "cancelling is for the owner",
        SUBMISSIONS_FILE,
        '"WHERE v.id = ANY (%s) AND (%s::uuid IS NULL OR v.owner_id = %s) "',
        '"WHERE v.id = ANY (%s) AND (%s::uuid IS NULL OR v.owner_id IS DISTINCT FROM %s OR true) "',
        (f"{_OWNERS}test_cancel_with_owner_cancels_only_that_owners_videos",),
    ),
    Guard(
        "only what failed or was cancelled is tried again",
        AGAIN,
        '_Chosen(["FAILED"], ids, owner_id, failures=failures)',
        '_Chosen(["FAILED", "READY", "PENDING", "PROCESSING"], ids, owner_id, failures=failures)',
        (f"{_OWNERS}test_what_waits_is_worked_on_or_is_ready_is_not_tried_again",),
    ),
    Guard(
        "trying again is for the owner",
        AGAIN,
        "(%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)\nORDER BY v.id FOR UPDATE\n",
        "(%(owner)s::uuid IS NULL OR true)\nORDER BY v.id FOR UPDATE\n",
        (f"{_OWNERS}test_a_cancelled_video_is_tried_again_when_it_is_named",),
    ),
    Guard(
        "what is forgotten meanwhile is not processed again",
        AGAIN,
        "ORDER BY v.id FOR UPDATE\n",
        "ORDER BY v.id\n",
        (f"{_MEANWHILE}test_what_is_being_forgotten_is_not_processed_again[retry-ours]",),
    ),
    Guard(
        "what can never succeed is not retried with the others",
        "cluster/store/queue/failures.py",
        'RETRIED: LiteralString = f"{FAILED} AND {_MAY_SUCCEED}"',
        "RETRIED: LiteralString = FAILED",
        ("tests/integration/test_quarantine_api.py::test_retry_of_an_unreadable_video_needs_its_id",),
    ),
    Guard(
        "HTTP: an empty retry is refused",
        "serve_app/schemas/videos.py",
        "        if self.stage is None and self.ids is None and self.all is None:\n",
        "        if False:\n",
        ("tests/integration/test_quarantine_api.py::test_retry_without_a_filter_is_refused",),
    ),
    Guard(
        "a name of several videos does nothing",
        "cluster/cli/video_choice.py",
        "    if len(found) == 1:\n",
        "    if found:\n",
        ("tests/integration/test_video_choice.py::test_name_of_several_videos_chooses_none",),
    ),
    Guard(
        "HTTP: cancelling is for the owner",
        API,
        "cancel(parts.pool, [video_id], user_id, _owner(parts, user_id))",
        "cancel(parts.pool, [video_id])",
        (_OTHERS_CHANGE,),
    ),
    Guard(
        "HTTP: trying again is for the owner",
        API,
        "retry(parts.pool, [video_id], owner_id=user_id, by=_owner(parts, user_id))",
        "retry(parts.pool, [video_id])",
        (_OTHERS_CHANGE,),
    ),
    Guard("a video is its owner's", READS, "v.id = %s AND v.owner_id = %s", "v.id = %s AND %s <> v.id", (_OTHERS_SEE,)),
    Guard("a list is its owner's", READS, '"v.owner_id = %(owner)s AND ', '"%(owner)s <> v.id AND ', (_OTHERS_SEE,)),
    Guard(
        "words are found in one's own scenes",
        INDEX,
        "WHERE {scope}\n  AND s.text_index",
        "WHERE true\n  AND s.text_index",
        (f"{_OTHERS_SCENES}[words-10]",),
    ),
    Guard(
        "pictures are found in one's own scenes",
        INDEX,
        "WHERE {scope}\n    ORDER BY",
        "WHERE true\n    ORDER BY",
        (f"{_INDEX_SUITE}test_an_owner_with_few_scenes_among_many_finds_all_of_them[postgres-short]",),
    ),
    Guard(
        "pictures are found in one's own scenes, also without the index",
        INDEX,
        "WHERE {scope}\n)",
        "WHERE true\n)",
        (f"{_OTHERS_SCENES}[pictures-10]",),
    ),
]

_SENDING = [
    Guard(
        "Idempotency-Key",
        API,
        "if idempotency_key is not None:",
        'if idempotency_key == "":',
        (f"{_HTTP}test_a_submission_with_a_key_is_made_once",),
    ),
    Guard(
        "Idempotency-Key: one user's is not another's",
        API,
        "uuid5(user_id, ",
        "uuid5(UUID(int=0), ",
        (f"{_HTTP}test_a_submission_with_a_key_is_made_once",),
    ),
    Guard(
        "Idempotency-Key: for one submission",
        SUBMISSIONS_FILE,
        'if standing["changed"]:',
        'if standing["changed"] is None:',
        (f"{_HTTP}test_a_key_belongs_to_one_submission",),
    ),
    Guard(
        "the same id is enqueued once",
        SUBMISSIONS_FILE,
        "ON CONFLICT (id) DO NOTHING\n",
        "ON CONFLICT (id) DO UPDATE SET status = excluded.status\n",
        (f"{_OWNERS}test_a_submission_of_which_some_arrived_is_completed",),
    ),
    Guard(
        "submissions per minute",
        REQUESTS,
        'used["lately"] + asked.videos > limits.per_minute',
        "asked.videos > limits.per_minute",
        (f"{_RATE}test_an_owner_submits_no_more_than_so_many_within_a_minute",),
    ),
    Guard(
        "submissions per minute: judged under a lock",
        REQUESTS,
        'connection.execute("SELECT FROM video_owners WHERE owner_id = %s FOR NO KEY UPDATE", (owner_id,))',
        "pass",
        (f"{_MEANWHILE}test_an_owners_submissions_are_counted_one_after_the_other",),
    ),
    Guard(
        "submissions per minute: what is repeated does not count",
        REQUESTS,
        "    if not asked.videos:\n        return\n",
        "",
        (f"{_MEANWHILE}test_the_same_submission_at_once_counts_once",),
    ),
    Guard("allowed schemes by HTTP", API, "    if refusal is not None:\n", "    if not uri:\n", (_BAD,)),
    Guard("URIs are checked on submission", API, "            check_remote(uri)\n", "            pass\n", (_BAD,)),
    Guard("a submission has a most", API, "min_length=1, max_length=MAX_SUBMISSIONS", "min_length=1", (_BAD,)),
    Guard("a submission says nothing else", VIDEOS, 'extra="forbid", ', "", (_BAD,)),
    Guard("a URI has an end", VIDEOS, "min_length=1, max_length=MAX_URI", "min_length=1", (_BAD,)),
    Guard(
        "control characters in URIs",
        VIDEOS,
        'if "\\0" in uri:',
        "if not uri:",
        ("tests/integration/test_video_queue.py::test_a_uri_that_no_database_can_hold_is_no_submission",),
    ),
]

SUBMISSIONS = [*_FAIRNESS, *_CHANGES, *_SENDING]
