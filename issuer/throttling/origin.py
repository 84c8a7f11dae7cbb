"""Where a request came from, as limits and lists of sessions need it.

Reading it from a request is the work of `web`.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Origin:
    """Where a request came from: labels for lists of sessions, and what limits count by."""

    user_agent: str = ""
    address: str = ""
    device: str = field(default="", repr=False)
    """The device cookie of the request; empty: there is none."""
    given_device: str = field(default="", repr=False)
    """The device cookie that the response sets, if the request had none."""
