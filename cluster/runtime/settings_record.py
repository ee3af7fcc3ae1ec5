"""Notes in the audit log which settings changed since the cluster was brought up before.

Of a secret only whether it is set is written down.
"""

from cluster.contracts.audit import Action, ObjectKind, command_line
from cluster.settings import PREFIX, SECRETS, Settings, as_environment
from cluster.store.postgres.audit_log import latest_details, note
from cluster.store.postgres.connections import Pool

WHOLE = "settings"
"""The object of the entries: they are about all settings of a cluster."""
IS_SET = "(set)"


def note_settings(pool: Pool, settings: Settings) -> list[str]:
    """Write down the settings that differ from the entry before; returns their names. The first entry has them all."""
    hidden = {PREFIX + name.upper() for name in SECRETS}
    now = {name: IS_SET if name in hidden else value for name, value in as_environment(settings).items() if value}
    before = (latest_details(pool, Action.CHANGE_SETTINGS, WHOLE) or {}).get("settings")
    changed = sorted(name for name in now.keys() | (before or {}).keys() if now.get(name) != (before or {}).get(name))
    if changed or before is None:
        details = {"settings": now, "changed": changed}
        note(pool, command_line(), Action.CHANGE_SETTINGS, ObjectKind.SETTING, [WHOLE], details)
    return changed
