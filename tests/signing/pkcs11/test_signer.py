"""Keys in a PKCS#11 token, besides the promises of every signer."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pkcs11
import pkcs11.util.ec
import pytest
from pkcs11 import Attribute, ObjectClass
from support.signatures import verifies
from support.softhsm import (
    LABEL,
    MODULE,
    PIN,
    configured,
    fresh_token,
    kept_key,
    loaded,
    objects,
    session,
    signer,
)

from issuer.errors import KeyUnavailable, Refused
from issuer.settings.settings import BadSettings, Settings
from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.pkcs11.mechanisms import METHODS
from issuer.signing.pkcs11.signer import KEPT, PENDING
from issuer.wiring import build

PRIVATE_NUMBERS = {
    "RS256": (Attribute.PRIVATE_EXPONENT, Attribute.PRIME_1, Attribute.PRIME_2, Attribute.EXPONENT_1),
    "PS256": (Attribute.PRIVATE_EXPONENT, Attribute.COEFFICIENT),
    "ES256": (Attribute.VALUE,),
    "EdDSA": (Attribute.VALUE,),
}


@pytest.fixture(autouse=True)
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Each test has an empty token of its own."""
    with fresh_token(tmp_path / "softhsm", monkeypatch) as conf:
        yield conf


# Inside, and nowhere else


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_private_key_cannot_be_read_copied_out_or_used_for_anything_but_signing(alg: str) -> None:
    public = kept_key(alg)
    with session() as opened:
        (key,) = objects(opened, ObjectClass.PRIVATE_KEY, public.kid)
        for name in (Attribute.SENSITIVE, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE):
            assert key[name] is True
        for name in (Attribute.PRIVATE, Attribute.LOCAL, Attribute.TOKEN, Attribute.SIGN):
            assert key[name] is True
        for name in (Attribute.EXTRACTABLE, Attribute.DECRYPT, Attribute.UNWRAP, Attribute.DERIVE):
            assert key[name] is False
        for name in PRIVATE_NUMBERS[alg]:
            with pytest.raises(pkcs11.AttributeSensitive):
                key[name]
        for name, wish in ((Attribute.SENSITIVE, False), (Attribute.EXTRACTABLE, True)):
            with pytest.raises(pkcs11.AttributeReadOnly):
                key[name] = wish


def test_an_existing_key_cannot_be_imported() -> None:
    with pytest.raises(Refused, match="generated inside the token"):
        signer().import_key(ALGORITHMS["ES256"].generate(), "ES256")
    with pytest.raises(Refused, match="PIN with its own tool"):
        signer().rewrap("another")


def test_a_key_that_could_be_read_out_is_refused() -> None:
    public = kept_key()
    with session() as opened:
        (key,) = objects(opened, ObjectClass.PRIVATE_KEY, public.kid)
        key.destroy()
        curve = {
            Attribute.EC_PARAMS: objects(opened, ObjectClass.PUBLIC_KEY, public.kid)[0][Attribute.EC_PARAMS]
        }
        opened.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True).generate_keypair(
            id=public.kid.encode(), store=True, private_template={Attribute.EXTRACTABLE: True}
        )
    with pytest.raises(KeyUnavailable, match="could be read out"):
        loaded(public)


# Names


def test_both_objects_of_a_key_have_the_kid_as_id_and_a_tag_as_label() -> None:
    ours = signer()
    public = ours.generate("ES256")
    with session() as opened:
        pair = [
            *objects(opened, ObjectClass.PRIVATE_KEY, public.kid),
            *objects(opened, ObjectClass.PUBLIC_KEY, public.kid),
        ]
        assert [each[Attribute.LABEL] for each in pair] == [PENDING, PENDING]
        ours.keep(public.kid)
        assert [each[Attribute.LABEL] for each in pair] == [KEPT, KEPT]


def test_keys_that_share_a_label_are_distinguished() -> None:
    keys = [kept_key() for _ in range(3)]
    for public in keys:
        assert verifies(public, b"data", loaded(public).sign(public.kid, b"data"))
    assert signer().kept() == {public.kid for public in keys}


def test_keys_with_other_labels_or_ids_are_ignored() -> None:
    public = kept_key()
    with session() as opened:
        (key,) = objects(opened, ObjectClass.PRIVATE_KEY, public.kid)
        key[Attribute.LABEL] = "somebody else's"
    assert signer().kept() == frozenset()
    assert verifies(public, b"data", loaded(public).sign(public.kid, b"data"))


def test_keys_of_other_programs_in_the_same_token_are_neither_destroyed_nor_labelled() -> None:
    public = kept_key()
    with session() as opened:
        for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
            (key,) = objects(opened, kind, public.kid)
            key[Attribute.LABEL] = "another program"
        signer().keep(public.kid)
        with pytest.raises(KeyUnavailable, match="not the label of this program: it was not touched"):
            signer().destroy(public.kid)
        for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
            (key,) = objects(opened, kind, public.kid)
            assert key[Attribute.LABEL] == "another program"


@pytest.mark.parametrize("name", ["other-key", "", "01", "../x"])
def test_a_text_that_is_no_kid_destroys_nothing_in_the_token(name: str) -> None:
    with session() as opened:
        curve = pkcs11.util.ec.encode_named_curve_parameters("secp256r1")
        parameters = opened.create_domain_parameters(
            pkcs11.KeyType.EC, {Attribute.EC_PARAMS: curve}, local=True
        )
        parameters.generate_keypair(id=name.encode(), label="another program", store=True)
        assert not signer_destroys(name)
        assert objects(opened, ObjectClass.PRIVATE_KEY, name)


def signer_destroys(name: str) -> bool:
    try:
        return signer().destroy(name)
    except KeyUnavailable:
        return False


def test_swapped_keys_are_detected_by_their_signatures() -> None:
    one, other = kept_key(), kept_key()
    with session() as opened:
        (first,), (second,) = (objects(opened, ObjectClass.PRIVATE_KEY, each.kid) for each in (one, other))
        first[Attribute.ID], second[Attribute.ID] = other.kid.encode(), one.kid.encode()
    for public in (one, other):
        with pytest.raises(KeyUnavailable, match="swapped"):
            loaded(public)


def test_a_missing_or_swapped_public_key_is_refused() -> None:
    one, other = kept_key(), kept_key()
    with session() as opened:
        (first,), (second,) = (objects(opened, ObjectClass.PUBLIC_KEY, each.kid) for each in (one, other))
        first[Attribute.ID] = other.kid.encode()
        assert loaded(other)
        second.destroy()
    for public in (one, other):
        with pytest.raises(KeyUnavailable, match="public key"):
            loaded(public)


def test_two_private_keys_with_one_kid_are_refused() -> None:
    one, other = kept_key(), kept_key()
    with session() as opened:
        (second,) = objects(opened, ObjectClass.PRIVATE_KEY, other.kid)
        second[Attribute.ID] = one.kid.encode()
    with pytest.raises(KeyUnavailable, match=f"2 private keys with the CKA_ID {one.kid}"):
        loaded(one)


def test_orphans_in_the_token_are_reported_by_name() -> None:
    ours = signer()
    kept, forgotten = kept_key(), ours.generate("ES256")
    with session() as opened:
        objects(opened, ObjectClass.PRIVATE_KEY, forgotten.kid)[0][Attribute.ID] = b""
    assert ours.orphans({kept.kid}) == sorted([f"{forgotten.kid} (PUBLIC_KEY)", "unnamed (PRIVATE_KEY)"])
    assert ours.orphans({kept.kid, forgotten.kid}) == ["unnamed (PRIVATE_KEY)"]


def test_both_objects_of_a_destroyed_key_are_removed_even_after_an_interruption() -> None:
    ours = signer()
    keys = [kept_key(), kept_key()]
    with session() as opened:
        objects(opened, ObjectClass.PRIVATE_KEY, keys[1].kid)[0].destroy()
        assert [ours.destroy(public.kid) for public in keys] == [True, False]
        for public in keys:
            assert not objects(opened, ObjectClass.PUBLIC_KEY, public.kid)
            assert not objects(opened, ObjectClass.PRIVATE_KEY, public.kid)


# Tokens that lack something


def test_an_algorithm_that_the_token_lacks_is_reported(conf: Path) -> None:
    public = kept_key("EdDSA")
    configured(conf.parent, "slots.mechanisms = CKM_RSA_PKCS_KEY_PAIR_GEN,CKM_SHA256_RSA_PKCS")
    pkcs11.lib(str(MODULE)).reinitialize()
    ours = signer()
    for attempt in (lambda: ours.generate("EdDSA"), lambda: ours.load(public.kid, "EdDSA")):
        with pytest.raises(KeyUnavailable, match=r"has no EdDSA .*EDDSA.*ISSUER_ALGORITHM"):
            attempt()
    assert ours.generate("RS256")


def test_a_key_pair_without_a_readable_public_key_is_not_left_in_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def damaged(_half: object) -> NoReturn:
        raise ValueError("no point on the curve")

    monkeypatch.setitem(METHODS, "ES256", replace(METHODS["ES256"], read=damaged))
    ours = signer()
    with pytest.raises(KeyUnavailable, match="no point"):
        ours.generate("ES256")
    assert ours.orphans([]) == []


def test_without_the_extra_the_error_names_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (
        "issuer.signing.pkcs11.session",
        "issuer.signing.pkcs11.signer",
        "issuer.signing.pkcs11.mechanisms",
    ):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    settings = Settings(
        keys="pkcs11", pkcs11_module=str(MODULE), pkcs11_token=LABEL, keys_passphrase_file=tmp_path / "pin"
    )
    (tmp_path / "pin").write_text(PIN)
    with pytest.raises(BadSettings, match=r"pip install .*python-pkcs11"):
        build(settings)
    assert not list(tmp_path.glob("*.db"))
