"""Types of columns: instants, scopes, lists and objects of strings, and members of enumerations.

A value that cannot be read is returned as it is stored, so that a damaged row does not hide the others of its query.
`rows.checked` raises DatabaseDamaged for it.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import DateTime, Dialect, String, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from issuer.oauth import InvalidScope, format_scope, parse_scope

T = TypeVar("T")


class _Column(TypeDecorator[T]):
    """A type of Python, and how its values are stored; None is NULL."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok = True
    kind: type

    def _store(self, value: T) -> Any:
        raise NotImplementedError

    def _load(self, stored: Any) -> T:
        raise NotImplementedError

    @property
    def python_type(self) -> type:
        """What `rows.checked` expects."""
        return self.kind

    def process_bind_param(self, value: T | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return what is stored."""
        return None if value is None else self._store(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> T | None:  # noqa: ARG002
        """Return what was stored."""
        return None if value is None else self._load(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Return what reads a value, and leaves one that cannot be read as it is."""
        read = super().result_processor(dialect, coltype)
        if read is None:
            return None

        def lenient(value: Any) -> Any:
            try:
                return read(value)
            except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, InvalidScope):
                return value

        return lenient


class Instant(_Column[datetime]):
    """An instant in UTC, also on SQLite, which stores no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True
    kind = datetime

    def _store(self, value: datetime) -> datetime:
        return value.astimezone(UTC)

    def _load(self, stored: datetime) -> datetime:
        return stored.astimezone(UTC) if stored.tzinfo else stored.replace(tzinfo=UTC)


class Scope(_Column[frozenset[str]]):
    """A scope, stored as RFC 6749 section 3.3 writes it."""

    cache_ok = True
    kind = frozenset

    def _store(self, value: frozenset[str]) -> str:
        return format_scope(value)

    def _load(self, stored: str) -> frozenset[str]:
        return parse_scope(stored)


class Texts(_Column[tuple[str, ...]]):
    """Several strings in their order, stored as a JSON array."""

    cache_ok = True
    kind = tuple

    def _store(self, value: tuple[str, ...]) -> str:
        return json.dumps(value)

    def _load(self, stored: str) -> tuple[str, ...]:
        found = json.loads(stored)
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise TypeError("not a list of strings")
        return tuple(found)


class TextMap(_Column[dict[str, str]]):
    """Strings by name, stored as a JSON object."""

    cache_ok = True
    kind = dict

    def _store(self, value: dict[str, str]) -> str:
        return json.dumps(value)

    def _load(self, stored: str) -> dict[str, str]:
        found = json.loads(stored)
        if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
            raise TypeError("not an object of strings")
        return found


class Member(_Column[StrEnum]):
    """A member of an enumeration, stored as its value."""

    impl = String(32)
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def _store(self, value: StrEnum) -> str:
        return value.value

    def _load(self, stored: str) -> StrEnum:
        member: StrEnum = self.kind(stored)
        return member


class Members(_Column[frozenset[StrEnum]]):
    """Members of an enumeration, stored as a JSON array of their values."""

    cache_ok = True
    kind = frozenset

    def __init__(self, members: type[StrEnum]) -> None:
        super().__init__()
        self.members = members

    def _store(self, value: frozenset[StrEnum]) -> str:
        return json.dumps(sorted(value))

    def _load(self, stored: str) -> frozenset[StrEnum]:
        found = json.loads(stored)
        if not isinstance(found, list):
            raise TypeError("not a list")
        return frozenset(map(self.members, found))
