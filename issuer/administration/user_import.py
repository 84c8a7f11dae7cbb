"""Users who come from elsewhere, with their passwords: what a file of them says, and what is wrong with it.

Which hashes are verified is defined in `accounts.passwords`, which names are acceptable in `accounts`.
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
"""Of the file; the last may be left out."""
_SECRET_SIGNS = frozenset("$:;|{}\t")
"""In hashes, or between fields that other programs write; no username has one."""


@dataclass(frozen=True)
class ImportedUser:
    """A user, and the line of the file that tells of it."""

    line: int
    user: User


@dataclass(frozen=True)
class RowError:
    """What is wrong with a line; `username` is as the file has it, and may hold anything but a hash."""

    line: int
    username: str
    wrong: str


def read_users(
    lines: Iterable[str], passwords: Passwords, now: datetime
) -> tuple[list[ImportedUser], list[RowError]]:
    """Return the users in lines of CSV (RFC 4180) with the `COLUMNS`, and each line that is none.

    A first line with their names is passed over, and blanks around a field are no part of it. Raise
    UnicodeDecodeError if reading the lines does.
    """
    imported: list[ImportedUser] = []
    errors: list[RowError] = []
    for line, row in _rows(lines, errors):
        if line == 1 and tuple(map(str.lower, row)) in {COLUMNS, COLUMNS[:-1]}:
            continue
        try:
            imported.append(ImportedUser(line, _user(row, passwords, now)))
        except (OAuthError, BadHash) as error:
            errors.append(RowError(line, _name(row), str(error)))
    return imported, errors


def clashes(imported: Sequence[ImportedUser], accounts: AccountStore) -> Iterator[RowError]:
    """Yield each user whose name or id another account has, or an earlier line, or whose id a client has."""
    taken = accounts.taken([each.user for each in imported])
    names: dict[str, int] = {}
    ids: dict[str, int] = {}
    for line, user in ((each.line, each.user) for each in imported):
        name = canonical_username(user.username)
        for what, value, elsewhere, before in (
            ("username", name, taken.names, names),
            ("id", user.id, taken.ids, ids),
        ):
            first = before.setdefault(value, line)
            if value in elsewhere:
                yield RowError(line, user.username, f"another account has this {what}")
            elif first != line:
                yield RowError(line, user.username, f"line {first} has this {what}, too")
        if user.id in taken.subjects and user.id not in taken.ids:
            yield RowError(line, user.username, "a client has this id, or an account had it that was removed")


def _rows(lines: Iterable[str], errors: list[RowError]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            errors.append(RowError(reader.line_num, "", f"no CSV: {error}"))
            continue
        if row:
            yield reader.line_num, [each.strip() for each in row]


def _name(row: list[str]) -> str:
    """Return the username in a line that is wrong; nothing where the first field may be or hold a password's hash."""
    return "" if len(row) == 1 or not _SECRET_SIGNS.isdisjoint(row[0]) else row[0]


def _user(row: list[str], passwords: Passwords, now: datetime) -> User:
    if len(row) not in {len(COLUMNS), len(COLUMNS) - 1}:
        raise InvalidRequest(
            f"a line is {','.join(COLUMNS[:-1])}[,{COLUMNS[-1]}], separated by commas, and this has"
            f" {len(row)} field{'s' * (len(row) != 1)}; a hash that holds commas stands in double quotes"
        )
    name, password_hash, scope, *more = row
    username = require_username(name)
    passwords.require_verifiable(password_hash)
    return User(_id(*more), username, password_hash, parse_scope(scope), now)


def _id(given: str = "") -> str:
    """Return the `sub` of a user: the one given, to the letter, as others may know it."""
    if not given:
        return str(uuid.uuid4())
    try:
        canonical = str(uuid.UUID(given))
    except ValueError:
        canonical = ""
    if given != canonical:
        raise InvalidRequest("id must be a UUID as RFC 9562 writes it, in lower case")
    return given
