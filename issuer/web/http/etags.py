"""Entity tags: made of a body, and compared with those that a client has, RFC 9110 sections 8.8.3 and 13.1.2."""

import hashlib

from fastapi import Request

IF_NONE_MATCH_MOST = 4096


def etag_of(body: bytes) -> str:
    """Return the strong entity tag of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def is_known(request: Request, etag: str) -> bool:
    """Return whether the client has the representation with that tag, by weak comparison: the response is 304."""
    return not {etag, "*"}.isdisjoint(known_tags(request))


def is_named(request: Request, etag: str) -> bool:
    """Return whether the client has it and sends its tag, not just any tag (`*`)."""
    return etag in known_tags(request)


def known_tags(request: Request) -> set[str]:
    """Return the entity tags in If-None-Match without the marks of weak ones; `*` stays."""
    sent = ", ".join(request.headers.getlist("if-none-match"))[:IF_NONE_MATCH_MOST]
    return {tag.strip().removeprefix("W/") for tag in sent.split(",")} - {""}
