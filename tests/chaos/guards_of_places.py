"""The guards of the machine that the cluster runs on: its record, its secrets, its addresses, Ray's authentication."""

from tests.chaos.guards_trial import Guard

LAUNCH = "cluster/runtime/launch.py"
NODE = "cluster/runtime/ray_node.py"
SETTINGS = "cluster/settings.py"
EMBEDDED = "cluster/store/postgres/embedded.py"

_RECORD = "tests/unit/test_cluster_record.py::"
_AUTHENTICATION = "tests/unit/test_ray_authentication.py::"
_SETTINGS = "tests/unit/test_settings.py::"
_POSTGRES = "tests/integration/test_embedded.py::"

PLACES = [
    Guard(
        "the cluster's record is replaced whole",
        "cluster/security/private_files.py",
        "        draft.replace(path)",
        "        path.write_text(text)",
        (f"{_RECORD}test_record_being_read_is_replaced_not_written_into",),
    ),
    Guard(
        "the record of a cluster that died is none",
        LAUNCH,
        "return None if state is None or (state.node is not None and not state.node.is_alive()) else state",
        "return state",
        (f"{_RECORD}test_the_record_of_a_node_that_died_is_no_cluster",),
    ),
    Guard(
        "a process id that another program has by now is no node",
        NODE,
        "abs(process.create_time() - self.started_s) < 1.0",
        "process.create_time() > 0",
        (f"{_RECORD}test_reused_process_id_is_not_taken_for_a_cluster",),
    ),
    Guard(
        "Ray's token authentication stays on",
        NODE,
        'if mode.lower() != "token":',
        'if mode == "off":',
        (f"{_AUTHENTICATION}test_a_mode_other_than_token_is_refused",),
    ),
    Guard(
        "Ray's token authentication is on",
        NODE,
        'os.environ.setdefault("RAY_AUTH_MODE", "token")',
        'os.environ.get("RAY_AUTH_MODE", "token")',
        (f"{_AUTHENTICATION}test_where_nothing_is_said_it_is_on",),
    ),
    Guard(
        "Ray listens on this machine alone",
        NODE,
        "        os.environ |= LOOPBACK_ONLY\n",
        "        pass\n",
        (f"{_AUTHENTICATION}test_where_nothing_is_said_it_is_on",),
    ),
    Guard(
        "HTTP listens on this machine alone",
        SETTINGS,
        "http_host: str = Field(LOOPBACK,",
        'http_host: str = Field("0.0.0.0",',
        (f"{_SETTINGS}test_the_defaults_are_a_cluster_on_this_machine_alone",),
    ),
    Guard(
        "no local files by HTTP",
        SETTINGS,
        '        ("http", "https"), description="URI schemes that POST',
        '        ("http", "https", "file"), description="URI schemes that POST',
        (f"{_SETTINGS}test_the_defaults_are_a_cluster_on_this_machine_alone",),
    ),
    Guard(
        "secrets belong to their owner alone",
        "cluster/security/private_files.py",
        "os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)",
        "os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)",
        (f"{_SETTINGS}test_what_is_made_belongs_to_its_owner_alone",),
    ),
    Guard(
        "one secret, whoever asks first",
        "cluster/security/private_files.py",
        "                with contextlib.suppress(FileExistsError):\n                    os.link(draft, path)",
        "                with contextlib.suppress(FileExistsError):\n                    os.replace(draft, path)\n"
        "                draft.touch()",
        (f"{_SETTINGS}test_threads_that_ask_at_once_get_the_same_secret",),
    ),
    Guard(
        "secrets are not shown",
        SETTINGS,
        "shown = name not in SECRETS and isinstance",
        "shown = isinstance",
        (f"{_SETTINGS}test_a_secret_is_never_shown",),
    ),
    Guard(
        "admins are the owner only where the secret is the directory's own",
        SETTINGS,
        "local = self.jwt_secret is None and self.jwks_url is None",
        "local = self.owner_id is None",
        (f"{_SETTINGS}test_admin_is_the_owner_only_with_the_directorys_secret",),
    ),
    Guard(
        "a variable that is no setting is told",
        SETTINGS,
        "if name.startswith(PREFIX) and name not in known:",
        "if not name:",
        (f"{_SETTINGS}test_a_misspelt_variable_is_told_which_one_was_meant",),
    ),
    Guard(
        "Postgres starts once",
        EMBEDDED,
        "            fcntl.flock(lock, fcntl.LOCK_EX)\n",
        "",
        (f"{_POSTGRES}test_two_processes_that_start_it_at_once_get_one_server",),
    ),
    Guard(
        "paths that a shell would read otherwise",
        EMBEDDED,
        "if not set('\"$`\\\\\\n').isdisjoint(str(self.data_dir)):",
        "if not str(self.data_dir):",
        (f"{_POSTGRES}test_a_path_that_a_shell_would_read_otherwise_is_refused",),
    ),
    Guard(
        "a folder with other things in it is left alone",
        EMBEDDED,
        "if self.data_dir.exists() and any(self.data_dir.iterdir()):",
        "if not self.data_dir.name:",
        (f"{_POSTGRES}test_scratch_folder_with_other_content_is_left_alone",),
    ),
]
