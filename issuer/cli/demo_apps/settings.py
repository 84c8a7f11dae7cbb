"""What the demo tells its applications: the URLs, and the client that each of them is at the issuer."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Settings:
    """One application's settings."""

    issuer: str
    service: str
    here: str
    """The application's own URL, without a slash at the end."""
    client_id: str
    client_secret: str = field(default="", repr=False)
    """Empty for a public client."""
