"""State machine of signing in: two browsers and a thief, two applications, two nodes, and a model of who gets what.

The model knows sessions, consents, codes and sessions of applications; after each step every answer is what it says.
Near a limit the answer depends on the clock of the node, and the model takes it as it is.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from hypothesis import settings as tried
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.defaults import PASSWORD
from support.sign_in_world import (
    ORIGIN,
    Nodes,
    Outcome,
    Visitor,
    ask,
    is_over,
    redeem,
    refresh,
    userinfo,
)

from issuer.administration.users import disable_user, enable_user, set_password
from issuer.authorize.code import CODE_LIFETIME, REPEAT_SPAN
from issuer.maintenance.pruning import prune
from issuer.sessions.store import SEEN_INTERVAL

OFFSETS = (timedelta(0), timedelta(seconds=4))
MARGIN = timedelta(seconds=9)
LIFETIME, IDLE, ACCESS = timedelta(hours=12), timedelta(hours=2), timedelta(minutes=10)
OTHER_PASSWORD = "crimson lanterns hum quietly"
OTHER_VERIFIER = "another-verifier-of-forty-three-characters-x"

NODES = st.sampled_from([0, 1])
BROWSERS = st.sampled_from([0, 1])
APPS = st.sampled_from([0, 1])
CONSENTED = 0
"""The application that has to ask; the other is trusted."""


@dataclass(eq=False)
class Session:
    """A session of a browser."""

    began: datetime
    seen: datetime
    is_ended: bool = False


@dataclass(eq=False)
class Connection:
    """A session of an application: what a code has led to."""

    app: int
    session: Session | None
    """The session that it ends with; None: it outlives it."""
    expires: datetime | None
    refresh_token: str
    access_tokens: list[tuple[str, datetime]] = field(default_factory=list)
    is_ended: bool = False


@dataclass(eq=False)
class Code:
    """An authorization code."""

    text: str
    app: int
    session: Session
    is_offline: bool
    at: datetime
    session_expires: datetime
    used: datetime | None = None
    led_to: Connection | None = None


@cache
def shared_nodes() -> Nodes:
    """Return the installation of all histories."""
    return Nodes(OFFSETS)


def teardown_module() -> None:
    shared_nodes().close()


class SigningIn(RuleBasedStateMachine):
    """Who is signed in where, and what that is worth."""

    @initialize()
    def start(self) -> None:
        self.nodes = shared_nodes()
        self.nodes.renew()
        self.browsers = [Visitor(self.nodes) for _ in range(3)]
        self.sessions: list[Session | None] = [None, None, None]
        """Of each browser; the third is a thief's."""
        self.consents: set[str] = set()
        self.codes: list[Code] = []
        self.connections: list[Connection] = []
        self.password, self.is_enabled = PASSWORD, True

    @property
    def now(self) -> datetime:
        return self.nodes.now

    def is_signed_in(self, browser: int) -> bool | None:
        session = self.sessions[browser]
        if session is None or session.is_ended:
            return False
        over = (
            is_over(self.now - session.began, LIFETIME, MARGIN),
            is_over(self.now - session.seen, IDLE, MARGIN + SEEN_INTERVAL),
        )
        return False if True in over else None if None in over else True

    def saw(self, browser: int, *, was_signed_in: bool) -> None:
        """Learn from an answer whether a browser was signed in."""
        session = self.sessions[browser]
        if session is not None and was_signed_in:
            session.seen = self.now
        elif not was_signed_in:
            self.sessions[browser] = None

    @rule(browser=BROWSERS, node=NODES)
    def sign_in(self, browser: int, node: int) -> None:
        pages = self.browsers[browser].at(node)
        expected = self.is_signed_in(browser)
        page = pages.open(f"{ORIGIN}/signin")
        asks_only = not any("username" in form.fields for form in page.forms)
        if asks_only:  # signed in already
            assert expected is not False
            assert pages.submit(page, page.form_with("reason")).path == "/account"
            return self.saw(browser, was_signed_in=True)
        after = pages.sign_in(page, self.nodes.alice.username, self.password)
        if not self.is_enabled:
            assert after.status == 401, after.text
            return None
        assert after.path == "/account", after.text
        known = self.sessions[browser]
        if expected and known is not None:
            known.began = known.seen = self.now
        else:
            self.sessions[browser] = Session(self.now, self.now)
        self._void_copies_of(browser)
        return None

    def _void_copies_of(self, browser: int) -> None:
        """A sign-in gives the browser a new secret: copies of its cookie are worth nothing."""
        others = [each for each in range(3) if each != browser]
        for other in others:
            if self.sessions[other] is self.sessions[browser]:
                self.sessions[other] = None

    @precondition(lambda self: self.sessions[0])
    @rule()
    def a_thief_copies_the_cookies_of_the_first_browser(self) -> None:
        self.browsers[2].take_cookies(self.browsers[0])
        self.sessions[2] = self.sessions[0]

    @rule(
        browser=st.sampled_from([0, 1, 2]),
        node=NODES,
        app=APPS,
        prompt=st.sampled_from([None, None, "none", "login"]),
        offline=st.booleans(),
        answer=st.sampled_from(["Allow", "Allow", "Do not allow", None]),
    )
    def ask(
        self, browser: int, node: int, app: int, prompt: str | None, *, offline: bool, answer: str | None
    ) -> None:
        pages = self.browsers[browser].at(node)
        signed_in = self.is_signed_in(browser)
        outcome = ask(pages, self.nodes.apps[app], prompt, offline=offline)
        must_consent = app == CONSENTED and not self._covered(offline=offline)
        as_signed_in = "consent" if must_consent else "code"
        if prompt == "none":
            expected = {True: "consent_required" if must_consent else "code", False: "login_required"}
        else:
            expected = {True: "signin" if prompt == "login" else as_signed_in, False: "signin"}
        possible = {expected[signed_in]} if signed_in is not None else set(expected.values())
        if prompt == "login" and self._signed_in_just_now(browser):
            # By the clock of the node that may have been after the request began.
            possible.add(as_signed_in)
        assert outcome.text in possible
        if prompt != "login":
            self.saw(browser, was_signed_in=outcome.text == expected[True])
        if outcome.text == "consent" and answer:
            page = outcome.page
            outcome = Outcome(pages.submit(page, page.form_with("ticket"), answer))
            assert outcome.text == ("code" if answer == "Allow" else "access_denied")
            if answer == "Allow":
                self.consents |= {"online", "offline"} if offline else {"online"}
        if outcome.code:
            self._got(outcome.code, app, browser, offline=offline)

    def _signed_in_just_now(self, browser: int) -> bool:
        session = self.sessions[browser]
        return session is not None and self.now - session.began <= MARGIN

    def _covered(self, *, offline: bool) -> bool:
        return ("offline" if offline else "online") in self.consents

    def _got(self, code: str, app: int, browser: int, *, offline: bool) -> None:
        session = self.sessions[browser]
        assert session
        self.codes.append(Code(code, app, session, offline, self.now, session.began + LIFETIME))

    @precondition(lambda self: self.codes)
    @rule(
        back=st.integers(1, 4),
        node=NODES,
        presented=st.sampled_from(["right", "right", "right", "wrong verifier", "other application"]),
    )
    def redeem(self, back: int, node: int, presented: str) -> None:
        code = self.codes[-min(back, len(self.codes))]
        is_right = presented == "right"
        app = self.nodes.apps[1 - code.app if presented == "other application" else code.app]
        verifier = {"verifier": OTHER_VERIFIER} if presented == "wrong verifier" else {}
        response = redeem(self.nodes, node, app, code.text, **verifier)
        if code.used is not None:
            assert response.status_code == 400
            self._used_again(code, is_right=is_right)
            return
        expired = is_over(self.now - code.at, CODE_LIFETIME, MARGIN)
        may = is_right and not code.session.is_ended and self.is_enabled and expired is not True
        if not may or (expired is None and response.status_code == 400):
            assert response.status_code == 400, response.text
            assert response.json()["error"] == "invalid_grant"
            return
        assert response.status_code == 200, response.text
        self._connected(code, response.json())

    def _connected(self, code: Code, tokens: dict[str, str]) -> None:
        session = None if code.is_offline else code.session
        expires = None if code.is_offline else code.session_expires
        made = Connection(code.app, session, expires, tokens["refresh_token"])
        made.access_tokens.append((tokens["access_token"], self.now))
        self.connections.append(made)
        code.used, code.led_to = self.now, made

    def _used_again(self, code: Code, *, is_right: bool) -> None:
        assert code.used
        assert code.led_to
        late = is_over(self.now - code.used, REPEAT_SPAN, MARGIN)
        if not is_right or late:
            code.led_to.is_ended = True
        elif late is None:  # learn what was decided
            response = userinfo(self.nodes, 0, code.led_to.access_tokens[-1][0])
            code.led_to.is_ended = response.status_code != 200

    @precondition(lambda self: self.connections)
    @rule(back=st.integers(1, 4), node=NODES)
    def refresh(self, back: int, node: int) -> None:
        connection = self.connections[-min(back, len(self.connections))]
        app = self.nodes.apps[connection.app]
        response = refresh(self.nodes, node, app, connection.refresh_token)
        over = self._is_over(connection)
        if over or (over is None and response.status_code == 400):
            assert response.status_code == 400, response.text
            return
        assert response.status_code == 200, response.text
        connection.refresh_token = response.json()["refresh_token"]
        connection.access_tokens.append((response.json()["access_token"], self.now))

    def _is_over(self, connection: Connection) -> bool | None:
        if connection.is_ended or not self.is_enabled:
            return True
        if connection.expires is None:
            return False
        return is_over(self.now - connection.expires, timedelta(0), MARGIN)

    @precondition(lambda self: self.connections)
    @rule(back=st.integers(1, 4), node=NODES)
    def ask_for_claims(self, back: int, node: int) -> None:
        connection = self.connections[-min(back, len(self.connections))]
        token, at = connection.access_tokens[-1]
        response = userinfo(self.nodes, node, token)
        over = self._is_over(connection), is_over(self.now - at, ACCESS, MARGIN)
        if True in over:
            assert response.status_code == 401
        elif None not in over:
            assert response.status_code == 200, response.text
            assert response.json()["sub"] == self.nodes.alice.id

    @rule(browser=BROWSERS, node=NODES)
    def sign_out(self, browser: int, node: int) -> None:
        pages = self.browsers[browser].at(node)
        signed_in = self.is_signed_in(browser)
        page = pages.open(f"{ORIGIN}/signout")
        if not page.forms:
            assert signed_in is not True
        else:
            assert signed_in is not False
            pages.submit(page, page.forms[0])
            session = self.sessions[browser]
            assert session
            self._end(session)
        self.sessions[browser] = None

    def _end(self, session: Session) -> None:
        session.is_ended = True
        for connection in self.connections:
            if connection.session is session:
                connection.is_ended = True

    def _end_everything(self) -> None:
        for session in [*self.sessions, *(code.session for code in self.codes)]:
            if session:
                self._end(session)
        for connection in self.connections:
            connection.is_ended = True

    @rule(node=NODES)
    def the_password_is_changed(self, node: int) -> None:
        issuer = self.nodes.issuers[node]
        self.password = OTHER_PASSWORD if self.password == PASSWORD else PASSWORD
        user = issuer.accounts.store.by_id(self.nodes.alice.id)
        assert user
        set_password(issuer.tokens.families, issuer.accounts.passwords, user, self.password, issuer.clock())
        self._end_everything()

    @rule(node=NODES)
    def the_account_is_disabled_or_enabled(self, node: int) -> None:
        issuer = self.nodes.issuers[node]
        if self.is_enabled:
            disable_user(issuer.tokens.families, self.nodes.alice, issuer.clock())
            self._end_everything()
        else:
            enable_user(issuer.accounts.store, self.nodes.alice)
        self.is_enabled = not self.is_enabled

    @rule(node=NODES)
    def the_consent_is_withdrawn(self, node: int) -> None:
        issuer = self.nodes.issuers[node]
        client_id = self.nodes.apps[CONSENTED].client_id
        issuer.authorize.consents.withdraw(self.nodes.alice.id, client_id, issuer.clock())
        self.consents.clear()
        for code in self.codes:
            if code.app == CONSENTED and code.used is None:
                self.codes.remove(code)
        for connection in self.connections:
            if connection.app == CONSENTED:
                connection.is_ended = True

    @rule(seconds=st.sampled_from([1, 20, 40, 90, 600, 3600, 3 * 3600, 13 * 3600]))
    def wait(self, seconds: int) -> None:
        self.nodes.wait(timedelta(seconds=seconds))

    @rule(node=NODES)
    def expired_rows_are_deleted(self, node: int) -> None:
        issuer = self.nodes.issuers[node]
        prune(issuer.database, issuer.clock())


TestSigningIn = SigningIn.TestCase
TestSigningIn.settings = tried(max_examples=12, stateful_step_count=30, deadline=None)
