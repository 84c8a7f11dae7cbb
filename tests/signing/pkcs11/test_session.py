"""The session on a PKCS#11 token: with other processes, after a fork, with threads, and when it is lost."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from support.signatures import verifies
from support.softhsm import (
    CONF,
    LABEL,
    MODULE,
    PIN,
    configured,
    fresh_token,
    in_other_process,
    initialise,
    kept_key,
    loaded,
    other_process,
    session,
    signer,
)

from issuer.errors import KeyRingError, KeyUnavailable
from issuer.signing.pkcs11.session import Token
from issuer.signing.pkcs11.signer import Pkcs11Signer


@pytest.fixture(autouse=True)
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Each test has an empty token of its own."""
    with fresh_token(tmp_path / "softhsm", monkeypatch) as conf:
        yield conf


# Several processes and threads


def test_an_open_session_finds_keys_that_another_process_made_kept_and_destroyed() -> None:
    ours = signer()
    assert ours.kept() == frozenset()
    with other_process() as theirs:
        public = theirs("generate", "RS256")
        ours.load(public.kid, "RS256")
        assert verifies(public, b"data", ours.sign(public.kid, b"data"))
        theirs("keep", public.kid)
        assert ours.kept() == {public.kid}
        mine = ours.generate("ES256")
        theirs("load", mine.kid, "ES256")
        assert verifies(mine, b"data", theirs("sign", mine.kid, b"data"))
        assert theirs("destroy", public.kid)
        assert not ours.destroy(public.kid)
        assert theirs("destroy", mine.kid)
        with pytest.raises(KeyUnavailable, match=f"{mine.kid} is missing"):
            ours.sign(mine.kid, b"data")


def test_processes_that_start_at_once_all_open_the_token() -> None:
    processes = 8
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        made = [pool.submit(in_other_process, "generate", "ES256") for _ in range(processes * 3)]
        kids = {each.result().kid for each in made}
    ours = signer()
    for kid in kids:
        ours.keep(kid)
    assert ours.kept() == kids
    assert len(kids) == len(made)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("on_fork", ["true", "false"])
def test_a_fork_while_threads_sign_gives_a_child_that_signs_and_leaves_the_parent_alone(
    conf: Path, on_fork: str
) -> None:
    """Some modules notice a fork, and know nothing from then on; others continue with the state of the parent."""
    configured(conf.parent, f"library.reset_on_fork = {on_fork}")
    public = kept_key("RS256")
    ours = loaded(public)
    forking = get_context("fork")

    def child(sender: Any) -> None:
        with ThreadPoolExecutor(1) as thread:
            signature = thread.submit(ours.sign, public.kid, b"child").result()
        made = ours.generate("ES256")
        sender.send((signature, made, ours.sign(made.kid, b"child")))

    def fork() -> None:
        receiver, sender = forking.Pipe(duplex=False)
        process = forking.Process(target=child, args=(sender,), daemon=True)
        process.start()
        assert receiver.poll(10), "the child hangs"
        signature, made, another = receiver.recv()
        process.join(10)
        assert process.exitcode == 0
        assert verifies(public, b"child", signature)
        assert verifies(made, b"child", another)

    with ThreadPoolExecutor(4) as threads:
        signing = [threads.submit(ours.sign, public.kid, b"data") for _ in range(400)]
        for _ in range(3):
            fork()
        assert all(verifies(public, b"data", each.result()) for each in signing)
    assert verifies(public, b"data", ours.sign(public.kid, b"data"))


def test_threads_do_everything_at_once() -> None:
    """Only one thread at a time may call the module: C_Initialize was without CKF_OS_LOCKING_OK."""
    public = kept_key("RS256")
    signers = [loaded(public) for _ in range(2)]

    def work(number: int) -> bool:
        ours, text = signers[number % 2], b"%d" % number
        if number % 10:
            return verifies(public, text, ours.sign(public.kid, text))
        made = ours.generate("ES256")
        ours.keep(made.kid)
        return {public.kid, made.kid} <= ours.kept() and ours.destroy(made.kid)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(300)))


# Failure


def reinitialised() -> None:
    pkcs11.lib(str(MODULE)).reinitialize()


def finalised() -> None:
    pkcs11.lib(str(MODULE)).finalize()


@pytest.mark.parametrize("lose", [reinitialised, finalised])
@pytest.mark.parametrize(
    "use",
    [
        lambda ours, kid: ours.sign(kid, b"data"),
        lambda ours, _kid: ours.kept(),
        lambda ours, kid: ours.keep(kid),
        lambda ours, _kid: ours.generate("ES256"),
        lambda ours, kid: ours.destroy(kid),
        lambda ours, kid: ours.orphans([kid]),
    ],
)
def test_a_lost_session_is_opened_again(
    lose: Callable[[], None], use: Callable[[Pkcs11Signer, str], object]
) -> None:
    public = kept_key()
    ours = loaded(public)
    lose()
    assert use(ours, public.kid) != frozenset()


def test_a_signer_whose_module_another_one_started_anew_never_uses_an_old_handle() -> None:
    """Handles are numbers, given out from the first again: an old one may be another key's."""
    ours, theirs = signer(), signer()
    keys = [ours.generate("ES256") for _ in range(2)]
    for public in reversed(keys):
        theirs.load(public.kid, "ES256")
    reinitialised()
    for public in keys:
        assert verifies(public, b"data", theirs.sign(public.kid, b"data"))
        assert verifies(public, b"data", ours.sign(public.kid, b"data"))


def test_a_token_that_was_removed_is_reported_and_works_again_when_it_is_back(conf: Path) -> None:
    public = kept_key()
    ours = loaded(public)
    tokens, away = conf.parent / "tokens", conf.parent / "away"
    tokens.rename(away)
    tokens.mkdir()
    reinitialised()
    for _ in range(2):
        with pytest.raises(KeyUnavailable, match=f"{LABEL} is not there: .*ISSUER_PKCS11_TOKEN"):
            ours.sign(public.kid, b"data")
    tokens.rmdir()
    away.rename(tokens)
    assert verifies(public, b"data", ours.sign(public.kid, b"data"))


def test_a_wrong_pin_is_reported_without_the_pin_and_never_tried_twice() -> None:
    wrong = "97531"
    ours = signer(pin=lambda: wrong)
    for _ in range(2):
        with pytest.raises(KeyUnavailable, match=r"refuses the PIN.*ISSUER_KEYS_PASSPHRASE") as refusal:
            ours.kept()
        assert wrong not in str(refusal.value)
    with session() as opened:
        opened.set_pin(PIN, wrong)
        opened.close()
    with pytest.raises(KeyUnavailable, match="refuses the PIN"):
        ours.kept()
    assert signer(pin=lambda: wrong).kept() == frozenset()


def test_a_corrected_pin_is_tried() -> None:
    pins = ["97531"]
    ours = signer(pin=lambda: pins[-1])
    with pytest.raises(KeyUnavailable, match="refuses the PIN"):
        ours.kept()
    pins.append(PIN)
    assert ours.kept() == frozenset()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": "another"}, "another is not there: .*ISSUER_PKCS11_TOKEN"),
        ({"module": Path("/nowhere/module.so")}, "/nowhere/module.so.*ISSUER_PKCS11_MODULE"),
        ({"module": Path("/etc/hostname")}, "/etc/hostname.*ISSUER_PKCS11_MODULE"),
    ],
)
def test_a_wrong_setting_is_reported_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(KeyUnavailable, match=says):
        signer(**changes).kept()


def test_two_tokens_of_one_label_are_refused(conf: Path) -> None:
    initialise(conf)
    with pytest.raises(KeyUnavailable, match="one of several"):
        signer().kept()


def test_a_module_without_its_configuration_is_reported(monkeypatch: pytest.MonkeyPatch, conf: Path) -> None:
    signer().kept()
    finalised()
    monkeypatch.setenv(CONF, "/nowhere")
    with pytest.raises(KeyUnavailable, match=r"not set up.*GeneralError"):
        signer().kept()
    monkeypatch.setenv(CONF, str(conf))


def test_a_token_that_appears_while_the_issuer_starts_is_waited_for(conf: Path) -> None:
    def patience() -> Iterator[float]:
        yield 0
        initialise(conf, "late")
        yield 0

    assert signer(label="late", open_pauses=patience()).kept() == frozenset()


def test_a_token_that_is_initialised_again_while_in_use_gets_no_new_keys() -> None:
    public = kept_key()
    ours = loaded(public)
    ours.sign(public.kid, b"before")
    anew = [
        "softhsm2-util",
        "--init-token",
        "--token",
        LABEL,
        "--label",
        LABEL,
        "--so-pin",
        PIN,
        "--pin",
        PIN,
    ]
    subprocess.run(anew, check=True, capture_output=True)
    for _ in range(2):
        with pytest.raises(KeyUnavailable, match=r"is missing in the PKCS#11 token.*never makes another"):
            ours.sign(public.kid, b"after")
    assert ours.kept() == frozenset()


def test_a_token_that_fails_is_reported_as_possibly_full() -> None:
    def full(_session: object) -> None:
        raise pkcs11.FunctionFailed  # what SoftHSM says of a full disk

    with pytest.raises(KeyUnavailable, match="may be full"):
        Token(MODULE, LABEL, lambda: PIN, ()).perform(full)


def every_error() -> list[type[pkcs11.PKCS11Error]]:
    return [pkcs11.PKCS11Error, *pkcs11.PKCS11Error.__subclasses__()]


@pytest.mark.parametrize("error", every_error())
def test_every_error_of_the_package_is_translated_and_none_shows_the_pin(
    error: type[pkcs11.PKCS11Error],
) -> None:
    token = Token(MODULE, LABEL, lambda: PIN, ())

    def fail(_session: object) -> None:
        raise error

    with pytest.raises(KeyRingError) as refusal:
        token.perform(fail)
    assert isinstance(refusal.value, KeyUnavailable)
    assert error.__name__ in str(refusal.value)
    assert PIN not in f"{refusal.value} {token} {token!r} {signer()!r}"
