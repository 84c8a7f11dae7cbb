"""The settings of mail: without a server nothing is sent, and no page offers it.

What a URL of a server means is decided in `mail.server`.
"""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from issuer.accounts.profile import is_email
from issuer.mail.server import MailServer, parse_smtp_url


class MailSettings(BaseSettings):
    """How mails to users are sent; a part of `settings.Settings`."""

    smtp_url: SecretStr | None = Field(
        None,
        description="The server for mails to users: `smtp[s]://[USER:PASSWORD@]HOST[:PORT]`; without it, none.",
    )
    mail_from: str | None = Field(
        None,
        description="The address that mails are from; by default `no-reply@` and the host of `ISSUER_URL`.",
    )

    @field_validator("smtp_url")
    @classmethod
    def _is_smtp_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_smtp_url(value.get_secret_value())
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not is_email(value):
            raise ValueError("is not an e-mail address such as accounts@issuer.example")
        return value

    @property
    def mail_server(self) -> MailServer | None:
        """The server that sends mails; None: no mails are sent."""
        return parse_smtp_url(self.smtp_url.get_secret_value()) if self.smtp_url else None

    def sender(self, host: str) -> str:
        """Return the address that mails of the issuer on this host are from."""
        return self.mail_from or f"no-reply@{host}"
