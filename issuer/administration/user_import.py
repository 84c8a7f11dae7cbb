"""Import of users with their password hashes: reading the rows of a CSV file, and checking them.

Which hashes can be verified is defined in `accounts.passwords`, which names are accepted in `accounts.user`.
"""

import csv
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from issuer.accounts.passwords import BadHash, Passwords
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User, canonical_username, require_username
from issuer.oauth import InvalidRequest, OAuthError, parse_scope

COLUMNS = ("username", "password_hash", "scope", "id")
"""Of the file; the last one is optional."""
_HASH_CHARACTERS = frozenset("$:;|{}\t")
"""Characters of hashes, and separators of other file formats; no username contains one."""


@dataclass(frozen=True)
class ImportRow:
    """A user to import, and its line in the file."""

    line: int
    user: User


@dataclass(frozen=True)
class RowError:
    """Why a line cannot be imported; `username` is unchecked text of the file, but never a hash."""

    line: int
    username: str
    reason: str


def read_rows(
    lines: Iterable[str], passwords: Passwords, now: datetime
) -> tuple[list[ImportRow], list[RowError]]:
    """Return the users in lines of CSV (RFC 4180) with the `COLUMNS`, and the lines that cannot be imported.

    A header line is skipped, and spaces around fields are removed. Raise UnicodeDecodeError for other encodings.
    """
    rows: list[ImportRow] = []
    errors: list[RowError] = []
    for line, fields in _fields(lines, errors):
        if line == 1 and tuple(map(str.lower, fields)) in {COLUMNS, COLUMNS[:-1]}:
            continue
        try:
            rows.append(ImportRow(line, _user(fields, passwords, now)))
        except (OAuthError, BadHash) as error:
            errors.append(RowError(line, _username(fields), str(error)))
    return rows, errors


def find_conflicts(rows: Sequence[ImportRow], accounts: AccountStore) -> Iterator[RowError]:
    """Yield each user whose name or id an account or an earlier line has, or whose id a client has."""
    taken = accounts.taken([row.user for row in rows])
    names: dict[str, int] = {}
    ids: dict[str, int] = {}
    for line, user in ((row.line, row.user) for row in rows):
        name = canonical_username(user.username)
        for what, value, existing, lines in (
            ("username", name, taken.names, names),
            ("id", user.id, taken.ids, ids),
        ):
            first = lines.setdefault(value, line)
            if value in existing:
                yield RowError(line, user.username, f"another account has this {what}")
            elif first != line:
                yield RowError(line, user.username, f"line {first} has the same {what}")
        if name in taken.reserved:
            yield RowError(line, user.username, "an account of this name was deleted lately")
        if user.id in taken.subjects and user.id not in taken.ids:
            yield RowError(line, user.username, "a client or a removed account has this id")


def _fields(lines: Iterable[str], errors: list[RowError]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is not empty; add to `errors` what is not CSV."""
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            errors.append(RowError(reader.line_num, "", f"not valid CSV: {error}"))
            continue
        if fields:
            yield reader.line_num, [field.strip() for field in fields]


def _username(fields: list[str]) -> str:
    """Return the username of a line to show in an error; empty if the first field may contain a password hash."""
    return "" if len(fields) == 1 or not _HASH_CHARACTERS.isdisjoint(fields[0]) else fields[0]


def _user(fields: list[str], passwords: Passwords, now: datetime) -> User:
    if len(fields) not in {len(COLUMNS), len(COLUMNS) - 1}:
        raise InvalidRequest(
            f"expected {','.join(COLUMNS[:-1])}[,{COLUMNS[-1]}], separated by commas, and found {len(fields)}"
            f" field{'s' * (len(fields) != 1)}; put a hash that contains commas in double quotes"
        )
    name, password_hash, scope, *more = fields
    username = require_username(name)
    passwords.require_verifiable(password_hash)
    return User(_id(*more), username, password_hash, parse_scope(scope), now)


def _id(text: str = "") -> str:
    """Return the `sub` of a user: unchanged if the file has one, as other systems may know it, or a new one."""
    if not text:
        return str(uuid.uuid4())
    try:
        canonical = str(uuid.UUID(text))
    except ValueError:
        canonical = ""
    if text != canonical:
        raise InvalidRequest("id must be a UUID in the lower-case form of RFC 9562")
    return text
