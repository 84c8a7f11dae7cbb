"""Serves small files from memory, so that a response to a slow client uses no file descriptor."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

PART_BYTES = 64 * 1024


class InMemoryFiles(StaticFiles):
    """Static files that are read once; they do not change while the process runs."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return Starlette's response with the content from memory, and without ranges."""
        found = super().file_response(*args, **options)
        if not isinstance(found, FileResponse):  # 304
            return found
        content = _content(str(found.path))
        parts = (content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES))
        response = StreamingResponse(_awaited(parts), found.status_code, media_type=found.media_type)
        kept = [header for header in found.raw_headers if header[0] != b"accept-ranges"]
        response.raw_headers = kept
        return response


@lru_cache(maxsize=64)
def _content(path: str) -> bytes:
    return Path(path).read_bytes()


async def _awaited(parts: Iterator[bytes]) -> Any:
    for part in parts:
        yield part
