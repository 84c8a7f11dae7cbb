"""The background task that saves the census; what is remembered until then is in `keyring.census`."""

import asyncio

import anyio
import anyio.to_thread
import structlog

from issuer.database.errors import StoreError
from issuer.services import Issuer
from issuer.web.operation.supervision import Beat

log = structlog.get_logger("issuer.background")


async def flush_census(issuer: Issuer, beat: Beat) -> None:
    """Save the census as often as heartbeats are sent, on a thread of its own: no request and no refresh waits."""
    own_thread = anyio.CapacityLimiter(1)
    while True:
        await asyncio.sleep(issuer.policy.heartbeat_interval.total_seconds())
        try:
            await anyio.to_thread.run_sync(issuer.keys.census.flush, issuer.clock(), limiter=own_thread)
        except StoreError as error:
            log.warning("the census is delayed", reason=str(error))
        except Exception:
            log.exception("the census is delayed")
        beat()
