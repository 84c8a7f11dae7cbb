"""Redacts paths for logs and traces: only segments of known routes are kept.

Any other segment came from the client, and may be a token.
"""

from collections.abc import Iterable

REDACTED = "*"
SEGMENTS_MOST = 8


class PathRedaction:
    """Redacts paths by the templates of the known ones, such as `/users/me/sessions/{id}`."""

    def __init__(self, templates: Iterable[str]) -> None:
        paths = [template.split("/") for template in templates]
        self._known = {segment for path in paths for segment in path if not segment.startswith("{")}
        self._constant = {"/".join(path) for path in paths if self._known.issuperset(path)}

    def redacted(self, path: str) -> str:
        """Return `path` with `*` for each unknown segment, and for the rest of a long path."""
        if path in self._constant:
            return path
        segments = path.split("/", SEGMENTS_MOST)
        return "/".join(segment if segment in self._known else REDACTED for segment in segments)
