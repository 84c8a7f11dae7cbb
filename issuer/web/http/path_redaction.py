"""Which paths may be told to logs and traces: those made of words that this service knows.

Anything else in a path came from the client, and may be a token that was put in the wrong place.
"""

from collections.abc import Iterable

UNKNOWN = "*"
PARTS_MOST = 8


class PathRedaction:
    """The paths of a service, as templates: `/users/me/sessions/{id}`."""

    def __init__(self, templates: Iterable[str]) -> None:
        parts = [template.split("/") for template in templates]
        self._words = {word for words in parts for word in words if not word.startswith("{")}
        self._whole = {"/".join(words) for words in parts if self._words.issuperset(words)}

    def shown(self, path: str) -> str:
        """Return `path` with a `*` for each part that is no word of this service, and cut when it is long."""
        if path in self._whole:
            return path
        parts = path.split("/", PARTS_MOST)
        return "/".join(part if part in self._words else UNKNOWN for part in parts)
