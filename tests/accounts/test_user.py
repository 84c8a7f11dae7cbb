"""Acceptable names and passwords of new accounts.

That registration answers so is in `test_all_endpoints`; imported names and passwords are in `test_user_import`.
"""

import sys
import unicodedata

import pytest

from issuer.accounts.passwords import COMMON
from issuer.accounts.user import canonical_username, require_password, require_username
from issuer.oauth import InvalidRequest

# Default_Ignorable_Code_Point of DerivedCoreProperties.txt, Unicode 17.
DEFAULT_IGNORABLE = [
    0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010),
    *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0,
    *range(0xFFF0, 0xFFF9), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000),
]  # fmt: skip


@pytest.mark.parametrize(
    "around", ["{}", "alice{}", "{}alice", "al{}ice", "김{}철수", "\u0420\u043e{}\u043c", "た{}なか", "é{}"]
)
def test_no_name_holds_an_invisible_character(around: str) -> None:
    for code in DEFAULT_IGNORABLE:
        with pytest.raises(InvalidRequest):
            require_username(around.format(chr(code)))


def test_a_name_with_a_blank_letter_is_rejected() -> None:
    words = {"FILLER", "BLANK", "INVISIBLE", "SPACE", "JOINER", "SELECTOR"}
    for code in range(sys.maxunicode + 1):
        if not words.isdisjoint(unicodedata.name(chr(code), "").split()):
            for name in (chr(code), f"김{chr(code)}"):
                with pytest.raises(InvalidRequest):
                    require_username(name)


@pytest.mark.parametrize(
    "name",
    [
        "a\ua781ice",  # a turned l
        "\ua781",
        "\u1d00lice",
        "\ua731am",  # a small capital s
        "\ua7ffl",
        "\u0138im",  # kra
        "\u01c0",
        "al\u0131ce",
        "\u0131\u0131\u0131",
        "al\u0131\u0307ce",  # a dotless i with a dot
        "\u015f\u0131\u0307k",
        "al\u0131ce\u0665",
        "\u0430lice",
        "\u0440\u0430\u0443\u0440\u0430\u04cf",
        "\u03bflga",
        "\uff41lice\u0430",
        "user\u0665",  # two systems of digits
        "\u0665\u06f5",
        "\u09ea4",
        "\u2180",  # a number that no alphabet of today has
        "x\u0303",
        "\ua4ee\ua4e1\ua4f2",  # Lisu throughout, reads "ALI"
        "\U00010d40",  # of a script that the tables do not know
    ],
)
def test_a_name_confusable_with_another_is_rejected(name: str) -> None:
    with pytest.raises(InvalidRequest):
        require_username(name)


@pytest.mark.parametrize(
    "name",
    [
        "alice",
        "alice.b-c_d+e@example.com",
        "m\u00fcller",
        "\u0141ukasz",
        "\u0111inh",
        "\u00e6r\u00f8",
        "\u00deor",
        "\u0257an",  # Hausa
        "\u0131\u015f\u0131k",  # Turkish
        "I\u015f\u0131l",
        "\u00c7a\u011fr\u0131",
        "\u0130brahim",
        "nguy\u1ec5n",
        "\u0420\u043e\u043c\u0430\u043d",
        "\u0393\u03b9\u03ce\u03c1\u03b3\u03bf\u03c2",
        "\u305f\u306a\u304b\u592a\u90ce",
        "\u738b\u4f1f",
        "\u4e8c\u3007\u4e00",
        "\uae40\ucca0\uc218",
        "\u0905\u092e\u093f\u0924",
        "\u0632\u064a\u062f\u0665",
        "\u05e9\u05dc\u05d5\u05dd",
        "\u0e44\u0e17\u0e22",
        "\u10e5\u10d0\u10e0\u10d7\u10e3\u10da\u10d8",
        "\u12a0\u121b\u122d\u129b",
        "\u13e3\u13b3\u13a9",  # Cherokee
        "\u07d2\u07de\u07cf",  # N'Ko
        "\u1403\u14c4\u1483",  # Inuktitut
    ],
)
def test_names_in_modern_scripts_are_accepted(name: str) -> None:
    assert canonical_username(require_username(name)) == canonical_username(name)


@pytest.mark.parametrize(
    "password",
    [
        "Password123!",
        "P@ssw0rd1234",
        "p4ssw0rd!!!!",
        "@dministrator1",
        "Pa$$word2024",
        "!!Password!!1",
        "p.a.s.s.w.o.r.d",
        "drowssap1234",
        "PASSWORDPASSWORD",
        "password1234567890",
        "Welcome2024!!",
        "Summer2025!!!",
        "DragonMonkey1",
        "Qwertyuiop12",
        "1q2w3e4r5t6y",
        "1qaz2wsx3edc",
        "asdfghjkl123",
        "1234567890ab",
        "abcdefghijkl",
        "987654321098",
        "aaaaaaaaaaaa",
        "abababababab",
        "abc1abc1abc1",
        "alice1234567",
        "Alice!!!!!!!!",
        "2024-alice-24",
        "correct horse battery staple",
        "pässwörd1234",
        "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44\uff11\uff12\uff13\uff14",  # of double width
        "\u043f\u0430\u0440\u043e\u043b\u044c123456",
        "йцукенгшщзхъ",
        "contraseña123",
        "motdepasse123",
        "Dezember2026!",
        "al1ce2026!!!",
        "ecila2026!!!",
        "alice2026!!alice",
    ],
)
def test_variants_of_common_passwords_are_rejected(password: str) -> None:
    with pytest.raises(InvalidRequest, match="most common"):
        require_password(password, "alice", COMMON)


@pytest.mark.parametrize(
    "password",
    [
        "violet otters juggle pancakes",
        "xK9#mQ2$vL7p",
        "7f3a9c1e5b2d",
        "0a735639185bc8d7",  # its letters alone are "abcd"
        "p4831a9275s60s14w",
        "sunshine-84729-lamp",
        "dragon butterfly oak",
        "gr\u00fcne Wiesen im Mai",
        "\u043f\u0430\u0440\u043e\u043b\u044c \u0438\u0437 \u0441\u043b\u043e\u0432",
        "password manager wrote it: 0Zr7",
        "aliceblue is a colour of the web",
        "x" * 20 + " violet otters",
        "비밀번호는바다에서걷는것",
        "我喜欢在海边散步喝咖啡吃饭",
        "ฉันชอบกินข้าวเหนียวมะม่วง",
        "мама мыла раму утром",
        "मेरी बिल्ली को दूध पसंद है",
        "é" * 512,
    ],
)
def test_other_passwords_are_accepted_with_any_characters(password: str) -> None:
    assert require_password(password, "alice", COMMON) == password
