"""Refusal of confusable names (UTS 39): of several scripts, with letters that look like ASCII, or hidden characters.

Two names of one script that look alike are not detected: that needs a comparison with all other names. All other
rules for names are in `user`.
"""

import unicodedata
from itertools import pairwise

from confusable_homoglyphs import categories, confusables

from issuer.oauth import InvalidRequest

# Default_Ignorable_Code_Point of Unicode 17, and letters and marks that are drawn as a blank. Some are letters, such
# as the fillers of Hangul; joiners and selectors of variants are marks.
_INVISIBLE = (
    range(0xAD, 0xAE),
    range(0x34F, 0x350),
    range(0x61C, 0x61D),
    range(0x115F, 0x1161),
    range(0x17B4, 0x17B6),
    range(0x180B, 0x1810),
    range(0x200B, 0x2010),
    range(0x202A, 0x202F),
    range(0x2060, 0x2070),
    range(0x2800, 0x2801),
    range(0x3164, 0x3165),
    range(0xFE00, 0xFE10),
    range(0xFEFF, 0xFF00),
    range(0xFFA0, 0xFFA1),
    range(0xFFF0, 0xFFF9),
    range(0x13441, 0x13444),
    range(0x16FE4, 0x16FE5),
    range(0x1BCA0, 0x1BCA4),
    range(0x1D159, 0x1D15A),
    range(0x1D173, 0x1D17B),
    range(0xE0000, 0xE1000),
)
_TOGETHER = ({"HAN", "HIRAGANA", "KATAKANA"}, {"HAN", "HANGUL"}, {"HAN", "BOPOMOFO"})
_SHARED = {"COMMON", "INHERITED"}
# Of Latin letters beyond ASCII those with accents, and these of alphabets in use today. The others are phonetic,
# medieval or otherwise technical: more than the tables of look-alikes know pass for ASCII letters.
_LATIN = frozenset("ßæðøþđħıłŋœŧƀɓɔɖɗǝəɛɠɣɨƙɲɯʈʊʋƴƶʒʉʌʔɂɵɦɬǥ")
_IDEOGRAPHIC_ZERO = "\u3007"
_DOTLESS_I = "\u0131"


def require_plain(name: str) -> None:
    """Raise InvalidRequest for a `name`, in NFKC, that could be taken for another."""
    if any(ord(character) in hidden for character in name for hidden in _INVISIBLE):
        raise InvalidRequest("username holds invisible characters")
    if any(_is_loose(before, mark) for before, mark in pairwise(f"a{name}")):
        raise InvalidRequest("username holds combining marks without a letter")
    if not all(map(_is_in_use, name)):
        raise InvalidRequest("username holds letters or numbers of an alphabet that is no longer in use")
    if not _is_of_one_script(name) or not _is_of_one_set_of_digits(name) or _looks_like_ascii(name):
        raise InvalidRequest(
            "username mixes alphabets or look-alike characters: use the letters of one alphabet"
        )


def _is_loose(before: str, mark: str) -> bool:
    """Whether `mark` was not made one with the ASCII letter before it by NFKC; a dotless i with a dot is one, too."""
    category = unicodedata.category(mark)
    return (before.isascii() or before == _DOTLESS_I) and (category == "Lm" or category.startswith("M"))


def _is_in_use(character: str) -> bool:
    """Whether a character belongs to an alphabet in use today; only Latin letters are restricted."""
    category = unicodedata.category(character)
    if category.startswith("N"):
        return category == "Nd" or character == _IDEOGRAPHIC_ZERO
    scripts = categories.unique_aliases(character)
    if "LATIN" not in scripts:
        return scripts <= _SHARED or "Unknown" not in scripts
    base = unicodedata.normalize("NFD", character)[0]
    return base.isascii() or base.lower() in _LATIN


def _is_of_one_script(name: str) -> bool:
    """Whether all letters go together, UTS 39 section 5.1: of one script, or of Japanese and the like."""
    scripts = set(categories.unique_aliases(name)) - _SHARED
    return len(scripts) <= 1 or any(scripts <= together for together in _TOGETHER)


def _is_of_one_set_of_digits(name: str) -> bool:
    """Whether all digits are of one system, UTS 39 section 5.3."""
    zeros = {ord(each) - unicodedata.digit(each) for each in name if unicodedata.category(each) == "Nd"}
    return len(zeros) <= 1


def _looks_like_ascii(name: str) -> bool:
    """Return whether letters look like ASCII, all of them or mixed with ASCII letters: the name looks like another.

    A dotless i is accepted in a name with a letter that looks like no ASCII one, as in Turkish names.
    """
    foreign = {each: _passes_for_ascii(each) for each in name if not each.isascii()}
    has_ascii = any(character.isascii() and character.isalpha() for character in name)
    if any(each.isalpha() and not passes for each, passes in foreign.items()):
        foreign.pop(_DOTLESS_I, None)
    return any(foreign.values()) and (has_ascii or all(foreign.values()))


def _passes_for_ascii(character: str) -> bool:
    found = confusables.is_confusable(character, greedy=True) or [{"homoglyphs": []}]
    glyphs = [each["c"] for each in found[0]["homoglyphs"]]
    return any(len(glyph) == 1 and glyph.isascii() and glyph.isalnum() for glyph in glyphs)
