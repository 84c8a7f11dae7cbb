"""OpenID Connect Back-Channel Logout 1.0: tells clients by a signed logout token that a user has signed out.

Due notices are taken from `sessions.logout_notice_store`; connections are the work of `clients.outgoing_http`. The
rounds are started by a background task, so that nobody who signs out waits for a client.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from issuer.audit.chain import Action, Entry
from issuer.audit.store import AuditStore
from issuer.clients.host_lookup import LOOKUPS_MOST
from issuer.clients.outgoing_http import ExchangeFailed, OutgoingHttp
from issuer.clients.store import ClientStore
from issuer.database.errors import DatabaseDamaged
from issuer.database.work_queue import Round
from issuer.keyring.key import Key
from issuer.sessions.logout_notice_store import ATTEMPTS_MOST, LogoutNoticeStore
from issuer.sessions.logout_notices import LogoutNotice
from issuer.tokens.signed_jwt import LOGOUT_TOKEN, JwtSigner

METADATA = {"backchannel_logout_supported": True, "backchannel_logout_session_supported": True}
"""What discovery publishes, Back-Channel Logout section 2.1."""
EVENT = "http://schemas.openid.net/event/backchannel-logout"
LIFETIME = timedelta(seconds=120)
"""The longest that section 2.4 recommends."""
AT_ONCE = LOOKUPS_MOST
"""Notices of one round, which are sent at the same time: as many host names as can be looked up at once."""
REASON_MOST_CHARACTERS = 200

log = structlog.get_logger("issuer.sessions")


@dataclass(frozen=True)
class Delivery:
    """A notice whose client is to be told, and where."""

    notice: LogoutNotice
    uri: str
    token: str = field(repr=False)


class BackchannelLogout:
    """Sends logout tokens."""

    def __init__(
        self,
        notices: LogoutNoticeStore,
        clients: ClientStore,
        jwt_signer: JwtSigner,
        http: OutgoingHttp,
        audit: AuditStore,
        actor: str,
    ) -> None:
        self._notices = notices
        self._clients = clients
        self._signer = jwt_signer
        self._http = http
        self._audit = audit
        self._actor = actor

    def deliver_due(self, now: datetime) -> Round:
        """Send the due notices, at most `AT_ONCE`; raise Unavailable if this node cannot sign, or StoreError.

        A notice for a client that was disabled, or has no URI any more, is dropped.
        """
        if not self._notices.is_any_due(now):
            return Round()
        key = self._signer.signing_key(now)  # before an attempt is counted
        taken, damaged = self._notices.claim(now, AT_ONCE)
        for error in damaged:
            log.error("damaged logout notice", reason=str(error))
        interrupted = [notice for notice in taken if notice.attempts > ATTEMPTS_MOST]
        deliveries = list(self._deliveries(taken, key, now))
        reasons = self._http.run(self._send(deliveries)) if deliveries else {}
        given_up = [
            *interrupted,
            *(each for each in taken if each.attempts == ATTEMPTS_MOST and each.id in reasons),
        ]
        self._record(given_up, reasons, now)
        # The others stay, and are due again when the wait is over.
        self._notices.remove(each for each in taken if each.id not in reasons or each in given_up)
        return Round(
            delivered=len(deliveries) - len(reasons),
            failed=len(reasons) - len(given_up) + len(interrupted),
            given_up=len(given_up),
            is_full=len(taken) == AT_ONCE,
        )

    def _deliveries(self, notices: Iterable[LogoutNotice], key: Key, now: datetime) -> Iterator[Delivery]:
        for notice in notices:
            uri = self._uri(notice) if notice.attempts <= ATTEMPTS_MOST else None
            if uri is not None:
                yield Delivery(notice, uri, self.token(notice, key, now))

    def token(self, notice: LogoutNotice, key: Key, now: datetime) -> str:
        """Return a logout token, section 2.4; it expires before its key is withdrawn. Raise Unavailable."""
        issued_at = int(now.timestamp())
        lifetime = self._signer.lifetime(key, LIFETIME)
        claims = {
            "iss": self._signer.issuer,
            "sub": notice.user_id,
            "aud": notice.client_id,
            "iat": issued_at,
            "exp": issued_at + int(lifetime.total_seconds()),
            "jti": str(uuid.uuid4()),
            "events": {EVENT: {}},
            "sid": notice.sid,
        }
        return self._signer.sign(LOGOUT_TOKEN, claims, key)

    def _uri(self, notice: LogoutNotice) -> str | None:
        try:
            client = self._clients.find_enabled(notice.client_id)
        except DatabaseDamaged as error:  # the other clients are told
            log.warning("damaged client is not told of ended sessions", reason=str(error))
            return None
        return client.backchannel_logout_uri if client else None

    async def _send(self, deliveries: Sequence[Delivery]) -> dict[str, str]:
        """Return why notices were not accepted, by their ids."""
        reasons = await asyncio.gather(*map(self._post, deliveries))
        failed = {each.notice.id: reason for each, reason in zip(deliveries, reasons, strict=True) if reason}
        clients = Counter(each.notice.client_id for each in deliveries if each.notice.id in failed)
        last = {each.notice.client_id: failed.get(each.notice.id, "") for each in deliveries}
        for client, count in clients.items():
            log.warning("logout tokens not accepted", client=client, count=count, reason=last[client])
        return failed

    async def _post(self, delivery: Delivery) -> str:
        """Send a logout token, section 2.5; return why the client has not accepted it, or an empty string."""
        form = {"logout_token": delivery.token}
        try:
            async with (
                self._http.open(delivery.uri) as http,
                http.stream("POST", delivery.uri, data=form) as answer,  # its body is not read
            ):
                return "" if answer.is_success else f"the answer is {answer.status_code}"
        except ExchangeFailed as error:
            return str(error)
        except Exception as error:  # whatever one client causes, the others are told
            log.exception("cannot send a logout token", client=delivery.notice.client_id)
            return type(error).__name__

    def _record(self, given_up: Sequence[LogoutNotice], reasons: Mapping[str, str], now: datetime) -> None:
        """Record which clients were not told: one entry in the audit log for each client."""
        last = {each.client_id: reasons.get(each.id, "the process ended during it") for each in given_up}
        for client, count in Counter(each.client_id for each in given_up).items():
            reason = last[client][:REASON_MOST_CHARACTERS]
            log.error("logout notices given up", client=client, count=count, reason=reason)
            text = f"client {client} was not told of {count} ended sessions; last attempt: {reason}"
            self._audit.record(Entry(now, self._actor, Action.LOGOUT_UNDELIVERED, reason=text))
