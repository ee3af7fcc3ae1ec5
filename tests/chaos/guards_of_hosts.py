"""The guards against other accounts of the machine: closed folders, private files, and what is never printed."""

from tests.chaos.guards_trial import Guard

PRIVATE = "cluster/security/private_files.py"
_TESTS = "tests/unit/test_private_files.py::"

HOSTS = [
    Guard(
        "an open folder is refused",
        PRIVATE,
        '    _check_mode(folder, found, f"{setting}: ", PRIVATE_FOLDER)\n',
        "",
        (f"{_TESTS}test_private_folder_that_is_open_is_refused",),
    ),
    Guard(
        "a folder of another account is refused",
        PRIVATE,
        "if found.st_uid != os.geteuid():",
        "if False:",
        (f"{_TESTS}test_private_folder_of_another_account_is_refused",),
    ),
    Guard(
        "a link of another account is not followed",
        PRIVATE,
        "if found.st_uid not in _trusted():",
        "if False:",
        (f"{_TESTS}test_private_folder_behind_a_planted_link_is_refused",),
    ),
    Guard(
        "a folder that others may swap is refused",
        PRIVATE,
        "if stat.S_ISDIR(found.st_mode) and _others_may_replace(found):",
        "if False:",
        (f"{_TESTS}test_private_folder_below_a_replaceable_one_is_refused",),
    ),
    Guard(
        "a file that others may read is refused",
        PRIVATE,
        '    _check_mode(path, found, f"{name}: ", PRIVATE_FILE)\n',
        "",
        (f"{_TESTS}test_make_once_where_a_lax_file_is_refuses_it",),
    ),
    Guard(
        "a download never opens what is there already",
        "cluster/files/storage.py",
        "            path.unlink(missing_ok=True)  # of a worker that was killed meanwhile\n"
        '            file = os.fdopen(open_new_descriptor(path), "r+b", buffering=0)\n',
        '            file = path.open("w+b", buffering=0)\n',
        ("tests/unit/test_storage.py::test_fetch_link_planted_at_its_place_is_not_followed",),
    ),
    Guard(
        "the mode of a home directory is not changed",
        "cluster/security/data_folder.py",
        "not is_home(folder) and ",
        "",
        (f"{_TESTS}test_data_folder_that_is_a_home_keeps_its_mode",),
    ),
    Guard(
        "the cluster's record holds no password",
        "cluster/runtime/launch.py",
        "database_url=without_password(state.database_url)",
        "database_url=state.database_url",
        (f"{_TESTS}test_record_holds_no_password",),
    ),
    Guard(
        "settings print no secret",
        "cluster/settings.py",
        " if name not in _NOT_SHOWN]",
        "]",
        (f"{_TESTS}test_settings_show_no_secret",),
    ),
]
