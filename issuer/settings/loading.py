"""Loads the settings of this process: all errors at once, and warnings about what has no effect.

The settings are defined in `settings`, where they come from in `sources`.
"""

from collections.abc import Iterator
from itertools import starmap

from pydantic import ValidationError

from issuer.fixes import ConfigWarning
from issuer.settings import values
from issuer.settings.env_file import BadEnvFile, read_env_file
from issuer.settings.settings import BadSettings, Settings
from issuer.settings.sources import DuplicateSetting, file_warnings, raw_settings, unknown_in_environment

NAMES = frozenset(f"ISSUER_{name.upper()}" for name in Settings.model_fields)
SECRETS = frozenset(
    {
        "ISSUER_KEYS_PASSPHRASE",
        "ISSUER_METRICS_TOKEN",
        "ISSUER_DATABASE_URL",
        "ISSUER_PROXY",
        "ISSUER_SMTP_URL",
    }
)


def load_settings() -> Settings:
    """Return the settings of this process; raise BadSettings, which names each invalid setting without its value."""
    try:
        unread = _unread_lines()
        settings = Settings()
    except ValidationError as error:
        wrong = {
            str(problem["loc"][0]): values.reason(problem) for problem in error.errors(include_url=False)
        }
        defaults = {name: Settings.model_fields[name].default for name in wrong}
        # A line that cannot be read may be any setting, so the rest cannot be checked.
        rest = None if unread else Settings(**defaults)
        raise BadSettings(*unread, *starmap(_described, wrong.items()), rest=rest) from None
    except (BadEnvFile, DuplicateSetting) as error:
        raise BadSettings(str(error), fix=error.fix) from error
    if unread:
        raise BadSettings(*unread)
    return settings


def _described(field: str, reason: str) -> str:
    """Return an error with the name of its setting, and the line of `.env` that sets it."""
    name = f"ISSUER_{field.upper()}"
    error = reason if reason.startswith(name) else f"{name}: {reason}"
    raw = raw_settings().get(name)
    return f"{error} ({raw.where})" if raw and raw.line else error


def _unread_lines() -> list[str]:
    """Return an error for each line of `.env` that may be a setting and cannot be read; raise BadEnvFile."""
    file = read_env_file()
    unread = [each for each in file.unread if each.names_setting] if file else []
    return [f"line {each.line} of .env cannot be read: write NAME=value" for each in unread]


def setting_warnings() -> Iterator[ConfigWarning]:
    """Yield warnings about lines and names that have no effect; raise BadEnvFile."""
    yield from file_warnings(NAMES)
    yield from unknown_in_environment(NAMES)
