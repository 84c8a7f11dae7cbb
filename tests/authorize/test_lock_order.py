"""Transactions lock the account of a user before its browser session, and never wait for each other."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from support.authorization import SCOPE, a_request
from support.stores import NOW, user

from issuer.accounts.store import AccountStore
from issuer.authorize.code import code_for
from issuer.authorize.code_store import CodeStore
from issuer.authorize.consent_store import Consents
from issuer.database.database import Database
from issuer.digests import digest
from issuer.sessions.store import BrowserSessionStore
from issuer.throttling.origin import Origin
from issuer.tokens.family_store import FamilyStore

LIFETIME = timedelta(hours=12)


def test_codes_and_authentications_of_one_user_at_the_same_time_all_succeed(each_database: Database) -> None:
    owner = user()
    AccountStore(each_database).add(owner)
    sessions, codes = BrowserSessionStore(each_database, LIFETIME, LIFETIME), CodeStore(each_database)
    consents = Consents(each_database, FamilyStore(each_database))
    started = sessions.start(owner.id, None, "1", ("pwd",), Origin(), NOW)
    assert started
    session, _ = started

    def sign_in(number: int) -> object:
        if number % 3 == 0:
            return sessions.authenticate_again(session, None, "1", ("pwd",), NOW)
        if number % 3 == 1:
            return consents.give(owner.id, a_request(), SCOPE, NOW, NOW)
        code = code_for(a_request(), session, SCOPE, "a sid", digest(str(number)), NOW)
        return codes.add(code, None, NOW) and codes.use(code, NOW, "a session")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(sign_in, range(24)))
