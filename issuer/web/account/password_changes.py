"""Changes of the own account that need its password, for pages and endpoints alike: limits, then a hashing thread.

What is changed is decided in `administration.own_account` and `administration.own_profile`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

import anyio.to_thread
from fastapi import Depends

from issuer.accounts.login import hashing_queue
from issuer.accounts.user import User
from issuer.oauth import InvalidRequest
from issuer.sessions.session import BrowserSession
from issuer.throttling.origin import Origin
from issuer.tokens.bearer import Caller
from issuer.web.deps import AccountsDep, AdministrationDep, ClockDep

T = TypeVar("T")


class PasswordChanges:
    """Verifies the password of a user and does what it is asked for."""

    def __init__(self, administration: AdministrationDep, accounts: AccountsDep, clock: ClockDep) -> None:
        self._own = administration.own_account
        self._profile = administration.own_profile
        self._pool = accounts.hashing_pool
        self._clock = clock

    async def change(
        self, user: User, session: BrowserSession, password: str, new: str, origin: Origin
    ) -> str:
        """Change the password in a browser, and return the new secret of its session.

        Raise InvalidRequest for a new password that is refused, LoginFailed or TooManyAttempts for a wrong one.
        """
        await self._check_new(user, new, origin)
        return await self._hashing(
            user, origin, lambda now: self._own.change_password(user, session, password, new, origin, now)
        )

    async def change_of_caller(self, caller: Caller, password: str, new: str, origin: Origin) -> None:
        """Change the password by an application; raise the same."""
        user, family = caller.user, caller.family
        await self._check_new(user, new, origin)
        await self._hashing(
            user,
            origin,
            lambda now: self._own.change_password_of_caller(user, family, password, new, origin, now),
        )

    async def delete(self, user: User, password: str, origin: Origin) -> None:
        """Delete the account; raise LoginFailed or TooManyAttempts."""
        await anyio.to_thread.run_sync(self._own.check, user, origin, self._clock())
        await self._hashing(user, origin, lambda now: self._own.delete(user, password, origin, now))

    async def change_profile(
        self, user: User, password: str, origin: Origin, *, name: str | None, email: str | None
    ) -> User:
        """Change the name or the address, and return the user.

        Raise InvalidRequest, also for a missing password, where it is needed; LoginFailed or TooManyAttempts.
        """
        profile = self._profile
        if not (email is not None and password and profile.needs_password(user, email)):
            return await anyio.to_thread.run_sync(
                lambda: profile.change(user, self._clock(), name=name, email=email)
            )
        await anyio.to_thread.run_sync(self._own.check, user, origin, self._clock())
        return await self._hashing(
            user,
            origin,
            lambda now: profile.change_address(user, password, origin, now, name=name, email=email),
        )

    async def _check_new(self, user: User, new: str, origin: Origin) -> None:
        if not new:
            raise InvalidRequest("the new password is missing")
        await anyio.to_thread.run_sync(self._own.check_change, user, new, origin, self._clock())

    async def _hashing(self, user: User, origin: Origin, job: Callable[[datetime], T]) -> T:
        # Read the clock when the job runs: it may have been queued for a while.
        return await self._pool.run(hashing_queue(user.username, origin), lambda: job(self._clock()))


PasswordChangesDep = Annotated[PasswordChanges, Depends(PasswordChanges)]
