"""The guards of whose bytes are read: by the origin of a submission, by its owner, and what is said of places."""

from tests.chaos.guards_trial import Guard

ORIGINS = "cluster/files/origins.py"
PREFIXES = "cluster/contracts/uri_prefixes.py"
ROOT = "cluster/files/storage_root.py"
QUEUE = "cluster/store/queue/video_queue.py"
AGAIN = "cluster/store/queue/reprocessing.py"
SUBMISSIONS = "cluster/store/queue/submissions.py"
API = "serve_app/routes/videos.py"
PICTURES = "cluster/files/scene_pictures.py"
REDACTION = "cluster/security/redaction.py"
MIGRATION = "sql/migrations/041_add_submission_origin.sql"

_UNIT = "tests/unit/test_origins.py::"
_PREFIX = "tests/unit/test_uri_prefixes.py::test_prefix_other_file_is_not_covered"
_WRITTEN = "tests/integration/test_submission_origins.py::"
_SHOWN = "tests/integration/test_shown_uris.py::"
_TEXTS = "tests/unit/test_redaction.py::"
_OWN = f"{_UNIT}test_origin_adopted_reads_its_owners_folder_alone[fetcher]"
_REFUSED_BY_WORKER = f"{_WRITTEN}test_worker_refuses_what_settings_no_longer_allow"

_FETCHED = [
    Guard(
        "a fetcher checks what an origin may have",
        "actors/stages/fetcher.py",
        "            limits = limits_for(uri, origin, owner_id, limits)\n",
        "            pass\n",
        (f"{_UNIT}test_origin_of_others_reads_no_local_file[fetcher-adopted]", _REFUSED_BY_WORKER),
    ),
    Guard(
        "a media worker checks what an origin may have",
        "actors/workers/catalog.py",
        "                limits = limits_for(uri, origin, owner_id, limits)\n",
        "                pass\n",
        (
            f"{_UNIT}test_origin_of_others_reads_no_local_file[media worker-adopted]",
            f"{_WRITTEN}test_row_with_table_grants_is_fetched_as_adopted",
        ),
    ),
    Guard(
        "adopted rows read no local file",
        ORIGINS,
        'if origin is Origin.ADOPTED and scheme_of(uri) == "file":',
        'if scheme_of(uri) == "":',
        (f"{_UNIT}test_origin_adopted_reads_no_local_file_even_where_http_may[fetcher]",),
    ),
    Guard(
        "stored files of the owner alone",
        ORIGINS,
        "        check_own_folder(uri, owner_id)\n",
        "        check_folder(uri, owner_id)\n",
        (_OWN,),
    ),
    Guard("folders below that are another owner's", ROOT, 'path.split("/")[:-1]:', 'path.split("/")[:1]:', (_OWN,)),
    Guard(
        "redirects within the schemes of HTTP",
        ORIGINS,
        "return replace(limits, allowed_schemes=limits.http.schemes | {scheme_of(uri)})",
        "return limits",
        (f"{_UNIT}test_origin_of_others_has_the_schemes_of_http[http]",),
    ),
    Guard(
        "prefixes end at a folder",
        PREFIXES,
        'prefix = UriPrefix(f"{scheme}://{rest}/")',
        'prefix = UriPrefix(f"{scheme}://{rest}")',
        ("tests/unit/test_uri_prefixes.py::test_prefix_without_slash_is_a_folder",),
    ),
    Guard(
        "prefixes: plain names",
        PREFIXES,
        'if not all(map(_is_name, below.split("/"))):',
        "if not below:",
        (f"{_PREFIX}[s3://uploads/{{owner}}/../{{other}}/a.mp4]", f"{_PREFIX}[s3://uploads/{{owner}}//a.mp4]"),
    ),
    Guard(
        "prefixes: percent-encoding",
        PREFIXES,
        "decoded = urllib.parse.unquote(below)",
        "decoded = below",
        (f"{_PREFIX}[s3://uploads/{{owner}}/%2e%2e/{{other}}/a.mp4]",),
    ),
    Guard(
        "prefixes: percent-encoding, twice",
        PREFIXES,
        "        below = decoded\n    return False",
        "        return True\n    return False",
        (f"{_PREFIX}[s3://uploads/{{owner}}/%252e%252e/{{other}}/a.mp4]",),
    ),
]

_QUEUED = [
    Guard(
        "submissions by HTTP say so",
        API,
        "limits=limits, origin=Origin.HTTP)",
        "limits=limits)",
        (
            f"{_WRITTEN}test_path_changed_after_submission_is_not_read",
            f"{_WRITTEN}test_prefix_opens_an_owners_own_folder",
        ),
    ),
    Guard(
        "what is fetched was stored when it was queued",
        QUEUE,
        "coalesce(c.uri, v.storage_path) AS uri",
        "v.storage_path AS uri",
        (
            f"{_WRITTEN}test_path_changed_after_submission_is_not_read",
            f"{_WRITTEN}test_path_changed_while_it_is_taken_over_is_not_queued",
        ),
    ),
    Guard(
        "moments that no program can hold",
        QUEUE,
        "THEN v.queued_at ELSE clock_timestamp() END AS queued_at",
        "THEN v.queued_at ELSE v.queued_at END AS queued_at",
        (f"{_WRITTEN}test_claim_survives_moments_that_a_user_wrote[infinity]",),
    ),
    Guard(
        "what is queued of others is adopted",
        AGAIN,
        "SELECT id, owner_id, storage_path, 'adopted',",
        "SELECT id, owner_id, storage_path, 'command',",
        (f"{_WRITTEN}test_path_that_a_user_wrote_is_not_read[retry-{{secret}}]",),
    ),
    Guard(
        "what was looked at is taken over",
        AGAIN,
        "    WHERE v.storage_path = path\n      AND NOT EXISTS",
        "    WHERE NOT EXISTS",
        (f"{_WRITTEN}test_path_changed_while_it_is_taken_over_is_not_queued",),
    ),
    Guard(
        "ids of another owner",
        SUBMISSIONS,
        "IS DISTINCT FROM (%(owner)s, row.uri,",
        "IS DISTINCT FROM (v.owner_id, row.uri,",
        (f"{_WRITTEN}test_submission_does_not_take_over_a_row_of_another",),
    ),
    Guard(
        "REVOKE the queue from services",
        MIGRATION,
        "        REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER\n"
        "            ON TABLE public.video_processing, public.video_owners, public.video_leases FROM service_role;\n",
        "        NULL;\n",
        (f"{_WRITTEN}test_no_web_role_queues_a_video[service_role]",),
    ),
    Guard(
        "a row that says nothing is adopted",
        MIGRATION,
        "ADD COLUMN origin text NOT NULL DEFAULT 'adopted'",
        "ADD COLUMN origin text NOT NULL DEFAULT 'command'",
        (f"{_WRITTEN}test_row_with_table_grants_is_fetched_as_adopted",),
    ),
    Guard(
        "rows from before have the narrowest origin",
        MIGRATION,
        "AND NOT others.may_write THEN",
        "THEN",
        (f"{_WRITTEN}test_rows_from_before_have_the_narrowest_origin[users write videos]",),
    ),
    Guard(
        "files of rows are not removed",
        "cluster/cli/forget_command.py",
        "                limits_for(video.uri, Origin(video.origin), owner_id, limits)\n",
        "",
        (f"{_UNIT}test_file_that_is_not_fetched_is_not_removed",),
    ),
]

_READ = [
    Guard(
        "pictures below the scenes' URL",
        PICTURES,
        "if str(self.filesystem.unstrip_protocol(path)) != url or",
        "if",
        ("tests/unit/test_scene_pictures.py::test_picture_elsewhere_is_not_opened[folder]",),
    ),
    Guard(
        "key frames are read as pictures of their video",
        "cluster/reembed/worker.py",
        '    return read_whole_picture(pictures.read(scene.key_frame_url or "", scene.video_id))\n',
        "    import fsspec\n\n"
        '    return read_whole_picture(fsspec.open(scene.key_frame_url or "", "rb").open().read())\n',
        ("tests/unit/test_scene_pictures.py::test_key_frame_elsewhere_is_not_opened",),
    ),
    Guard(
        "thumbnails of other owners",
        "cluster/cli/thumbnails.py",
        "            check_folder(scene.url, scene.owner_id)\n",
        "            pass\n",
        ("tests/integration/test_adopting.py::test_thumbnail_of_another_owner_is_not_copied",),
    ),
    Guard(
        "found scenes are the owner's",
        "cluster/store/search/hits.py",
        " AND v.owner_id = %(owner)s AND p.forgotten_at",
        " AND p.forgotten_at",
        (
            f"{_SHOWN}test_reads_of_another_owner_find_nothing",
            f"{_SHOWN}test_search_shows_nothing_that_an_engine_wrongly_finds",
        ),
    ),
    Guard(
        "stage runs are the owner's",
        "cluster/store/queue/stage_runs.py",
        " AND (%(owner)s::uuid IS NULL OR v.owner_id = %(owner)s)",
        "",
        (f"{_SHOWN}test_reads_of_another_owner_find_nothing",),
    ),
]

_SAID = [
    Guard(
        "URLs in error texts",
        REDACTION,
        '_URL.sub(_shown_url, _PASSWORD.sub("", text))',
        "text",
        ("tests/unit/test_redacted_logs.py::test_log_traceback_has_no_secret",),
    ),
    Guard(
        "secrets by their names",
        REDACTION,
        'return without_secrets(_URL.sub(_shown_url, _PASSWORD.sub("", text)))',
        'return _URL.sub(_shown_url, _PASSWORD.sub("", text))',
        (f"{_TEXTS}test_text_is_redacted[Authorization: Bearer topsecret-Authorization: ...]",),
    ),
    Guard(
        "words of stores alone",
        REDACTION,
        "if _WORDS.fullmatch(said):",
        "if said:",
        (f"{_WRITTEN}test_store_that_is_away_tells_no_endpoint",),
    ),
    Guard(
        "tracebacks of logs",
        "cluster/security/visible.py",
        "self.exc_text = lines(redacted(logging.Formatter().formatException(self.exc_info)))",
        "self.exc_text = lines(logging.Formatter().formatException(self.exc_info))",
        ("tests/unit/test_redacted_logs.py::test_log_traceback_has_no_secret",),
    ),
    Guard(
        "lines of logs",
        "cluster/security/visible.py",
        "visible(redacted(super().getMessage()))",
        "visible(super().getMessage())",
        ("tests/unit/test_redacted_logs.py::test_log_line_has_no_secret",),
    ),
    Guard(
        "folders of this machine",
        "actors/attempt/attempt.py",
        "return redacted(message) if self.video.origin.by_operator else without_folders(message)",
        "return redacted(message)",
        (f"{_SHOWN}test_failure_is_written_down_without_secrets[http]",),
    ),
    Guard(
        "URIs of videos in answers",
        "cluster/store/videos/videos.py",
        '"uri": shown(video["uri"])',
        '"uri": video["uri"]',
        (f"{_SHOWN}test_http_answers_show_no_query",),
    ),
    Guard(
        "URIs of videos in --json",
        "cluster/store/videos/progress.py",
        '"uri": shown(row["uri"])',
        '"uri": row["uri"]',
        (f"{_SHOWN}test_what_others_wrote_is_shown_without_secrets",),
    ),
    Guard(
        "where the storage root is",
        "cluster/files/storage.py",
        "            error.args = (root.hidden_in(str(error), path), *error.args[1:])\n",
        "            pass\n",
        ("tests/unit/test_storage_root.py::test_storage_root_bucket_is_read",),
    ),
]

ORIGIN = [*_FETCHED, *_QUEUED, *_READ, *_SAID]
