"""The token that Ray's processes and clients authenticate with: made here, refused where other accounts can read it.

Ray's own command would make the file with the mode that the umask leaves.
"""

import os
import secrets
from pathlib import Path

from cluster.contracts.errors import ConfigurationError
from cluster.security.private_files import check_private_file, make_once, make_private_parents

TOKEN_BYTES = 32
VARIABLE, PATH_VARIABLE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_NAME = "Ray's token"


def ensure_token() -> None:
    """Make Ray's default token if the environment names no other and there is none yet.

    Raises:
        ConfigurationError: other accounts can read or replace the token's file; the message says the chmod.
    """
    if os.environ.get(VARIABLE):
        return
    path = token_file()
    if PATH_VARIABLE not in os.environ:
        make_private_parents(path, _NAME)
        make_once(path, _NAME, lambda: secrets.token_hex(TOKEN_BYTES))
    check_token()


def check_token() -> None:
    """Raise ConfigurationError where the token's file is missing although it is named, or open to other accounts."""
    if os.environ.get(VARIABLE):
        return
    path = token_file()
    if os.path.lexists(path):
        check_private_file(path, _NAME)
    elif PATH_VARIABLE in os.environ:
        raise ConfigurationError(f"{PATH_VARIABLE}: there is no file {path}: make it, or unset the variable")


def token_file() -> Path:
    """Where Ray reads the token, if the environment does not hold the token itself."""
    named = os.environ.get(PATH_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
