"""The texts of mails: plain text, from the templates in `templates`, whose first line is the subject.

Mails have no pictures and no links but the one that they are for: nothing tells whether they were read.
"""

from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr, make_msgid
from functools import cache
from typing import TYPE_CHECKING, Any

from issuer.mail.outbox import MailKind

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment() -> "Environment":
    """Return the templates."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - slow, and commands send nothing

    return Environment(
        loader=PackageLoader("issuer.mail"),
        autoescape=False,  # noqa: S701 - plain text
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def compose(
    kind: MailKind, sender: tuple[str, str], recipient: str, now: datetime, values: Mapping[str, Any]
) -> EmailMessage:
    """Return a message from `sender`, a name and an address; `values` are what its template names."""
    name, address = sender
    template = environment().get_template(f"{kind.replace(' ', '_')}.txt")
    subject, _, text = template.render(issuer_name=name, **values).partition("\n")
    message = EmailMessage(policy=SMTP)
    message["From"] = formataddr((name, address))
    message["To"] = recipient
    message["Subject"] = subject
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=address.partition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5: no out-of-office replies
    message.set_content(text.lstrip("\n"))
    return message
