"""The forms of values: each function returns a value in its canonical form, or raises ValueError.

The message of an error follows the name of the setting, and never contains the value, which may be secret.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import ErrorDetails

from issuer import urls
from issuer.accounts.attributes import require_claim_name
from issuer.addresses import parse_network
from issuer.database.url import parse
from issuer.oauth import InvalidRequest, InvalidScope, format_scope, parse_scope
from issuer.signing.algorithms import ALGORITHMS

LONGEST = timedelta(days=3650)
NOT_IN_FILES = frozenset({"database", "pkcs11"})
"""Values of ISSUER_KEYS that name no directory."""
CLAIMS_MOST = 32
_SHOWN_MOST = 100
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_REASONS = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 4300 digits",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "too_short": "must have at least {min_length} characters",
    "string_too_short": "must have at least {min_length} characters",
}
"""Messages by pydantic's error type."""
_DURATION = re.compile(r"([0-9]{1,12})([smhd]?)")


def parse_duration(value: object) -> timedelta:
    """Return the duration in `value`; raise ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError("write a duration as whole seconds or as 30d, 24h, 10m, 45s")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"the longest duration is {LONGEST.days}d")
    return timedelta(seconds=seconds)


def _at_least_a_second(span: timedelta) -> timedelta:
    if not span:
        raise ValueError("must be at least 1s")
    return span


def _at_most_an_hour(span: timedelta) -> timedelta:
    """Return the time for which used refresh tokens are stored: a session may use one every few seconds."""
    if span > timedelta(hours=1):
        raise ValueError("must be at most 1h")
    return span


def expanded(path: object) -> Path:
    """Return a path with the home directory in place of `~`."""
    try:
        return Path(str(path)).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, but the home directory is unknown: write the full path") from None


def possible(path: Path) -> Path:
    """Return a path that exists or can be created; raise ValueError for a name too long, or a loop of links."""
    try:
        path.stat()
    except (FileNotFoundError, PermissionError):  # reported where it is read or created
        return path
    except OSError as error:
        shown = str(path) if len(str(path)) <= _SHOWN_MOST else f"{str(path)[:_SHOWN_MOST]}…"
        raise ValueError(f"cannot be the path {shown}: {error.strerror}; use another one") from None
    return path


def database_url(value: SecretStr) -> SecretStr:
    """Return the URL of a supported database."""
    url = parse(value.get_secret_value())
    if url.get_backend_name() == "sqlite":
        possible(Path(str(url.database)))
    return value


def reason(fault: ErrorDetails) -> str:
    """Return why a value was refused, in this program's words."""
    words = _REASONS.get(fault["type"])
    if words is None:
        return fault["msg"].removeprefix("Value error, ")
    return words.format(**fault.get("ctx", {}))


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Lifetime = Annotated[Duration, AfterValidator(_at_least_a_second)]
Grace = Annotated[Duration, AfterValidator(_at_most_an_hour)]
FilePath = Annotated[Path, BeforeValidator(expanded), AfterValidator(possible)]
ANY_CASE = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


def one_line(value: object) -> object:
    """Return a value; raise ValueError for text with a line break, a zero byte or a byte order mark."""
    if isinstance(value, str) and any(character in value for character in "\r\n\0"):
        raise ValueError("contains a line break or a zero byte")
    if isinstance(value, str) and value.startswith("\ufeff"):  # copied from a file
        raise ValueError("begins with a byte order mark, U+FEFF, which is invisible: remove it")
    return value


def header_text(value: SecretStr | None) -> SecretStr | None:
    """Return a secret of printable ASCII: other characters have no defined encoding in a header."""
    text = value.get_secret_value() if value else ""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must be printable ASCII: other characters have no defined encoding in a header")
    return value


def split(value: object) -> object:
    """Return the items of a comma-separated list."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return origins in the form that browsers send, without duplicates."""
    return tuple(dict.fromkeys(urls.origin(each) for each in value))


def claims(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of attributes, or one function as `MODULE:FUNCTION`."""
    if any(":" in each for each in value):
        module, _, function = value[0].partition(":")
        if len(value) > 1 or not function.isidentifier() or not all(map(str.isidentifier, module.split("."))):
            raise ValueError(
                "write names of attributes separated by commas, or one function as MODULE:FUNCTION"
            )
        return value
    if len(value) > CLAIMS_MOST:
        raise ValueError(f"names more than {CLAIMS_MOST} attributes")
    try:
        return tuple(dict.fromkeys(map(require_claim_name, value)))
    except InvalidRequest as error:
        raise ValueError(error.description) from None


def scopes(text: str) -> str:
    """Return scopes, separated by spaces and without duplicates."""
    try:
        return format_scope(parse_scope(text))
    except InvalidScope as error:
        raise ValueError(error.description) from None


def networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses and networks; IPv4 addresses that are written as IPv6 become IPv4."""
    try:
        return tuple(str(parse_network(each)) for each in value)
    except ValueError:
        raise ValueError("each must be an address, or a network such as 10.0.0.0/8") from None


def unambiguous(passphrase: SecretStr | None) -> SecretStr | None:
    """Return a passphrase; raise ValueError if it has quotes or spaces around it, which may not be part of it."""
    text = passphrase.get_secret_value() if passphrase else ""
    in_quotes = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    if text != text.strip() or in_quotes:
        raise ValueError(
            "is in quotes, or has a space at an end: remove it; or, if it is part of the passphrase, write the"
            " passphrase to a file, and set ISSUER_KEYS_PASSPHRASE_FILE"
        )
    return passphrase


def proxy(value: SecretStr | None) -> SecretStr | None:
    """Return the URL of a proxy, which may contain a user and a password."""
    if value is not None:
        try:
            parts = urlsplit(value.get_secret_value())
            urls.origin(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}")
        except ValueError as error:
            raise ValueError(f"{error}; write http://[USER:PASSWORD@]HOST:PORT") from None
    return value


def place_of_keys(keys: str) -> str:
    """Return `database`, `pkcs11` or the path of a directory."""
    return keys.lower() if keys.lower() in NOT_IN_FILES else str(possible(expanded(keys)))


def algorithm(name: str) -> str:
    """Return the name of an algorithm in the spelling of RFC 7518."""
    for known in ALGORITHMS:
        if name.lower() == known.lower():
            return known
    raise ValueError(f"must be one of {', '.join(ALGORITHMS)}")
