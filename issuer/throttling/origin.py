"""Where a request came from, as limits and lists of sessions need it.

Reading it from a request is the work of `web`.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Origin:
    """Where a request came from: a label for who looks at a list of sessions, and what limits count by."""

    user_agent: str = ""
    address: str = ""
    device: str = field(default="", repr=False)
    """The random name that a browser was given and brings back; empty: it brought none."""
    given_device: str = field(default="", repr=False)
    """The name that it is given with the answer to this request, if it brought none."""
