"""Names that could be taken for others: letters of several alphabets, or that pass for ASCII ones, and hidden marks.

What else a name must be is told in `accounts`.
"""

import unicodedata
from itertools import pairwise

from confusable_homoglyphs import categories, confusables

from issuer.oauth import InvalidRequest

# The marks of Default_Ignorable_Code_Point: joiners, and selectors of variants.
_INVISIBLE_MARKS = (
    range(0x34F, 0x350),
    range(0x17B4, 0x17B6),
    range(0x180B, 0x1810),
    range(0xFE00, 0xFE10),
    range(0xE0100, 0xE01F0),
)
_TOGETHER = ({"HAN", "HIRAGANA", "KATAKANA"}, {"HAN", "HANGUL"}, {"HAN", "BOPOMOFO"})


def require_plain(name: str) -> None:
    """Raise InvalidRequest for a `name`, in NFKC, that could be taken for another."""
    if any(_hides(before, mark) for before, mark in pairwise(f"a{name}")):
        raise InvalidRequest("username holds marks that do not belong to a letter, or that nobody sees")
    if not _is_of_one_script(name) or _looks_like_ascii(name):
        raise InvalidRequest("username could be taken for another: keep to the letters of one alphabet")


def _hides(before: str, mark: str) -> bool:
    """Tell whether `mark` cannot be seen, or was not made one with the ASCII letter before it by NFKC."""
    category = unicodedata.category(mark)
    if category == "Lm":
        return before.isascii()
    invisible = any(ord(mark) in marks for marks in _INVISIBLE_MARKS)
    return category.startswith("M") and (before.isascii() or invisible)


def _is_of_one_script(name: str) -> bool:
    """Tell whether all letters go together, UTS 39 section 5.1: of one script, or of Japanese and the like."""
    scripts = set(categories.unique_aliases(name)) - {"COMMON", "INHERITED"}
    return len(scripts) <= 1 or any(scripts <= together for together in _TOGETHER)


def _looks_like_ascii(name: str) -> bool:
    """Tell whether letters pass for ASCII ones, beside such or all of them: the name could be another's."""
    foreign = [_passes_for_ascii(character) for character in name if not character.isascii()]
    beside = any(character.isascii() and character.isalpha() for character in name)
    return any(foreign) and (beside or all(foreign))


def _passes_for_ascii(character: str) -> bool:
    if "SMALL CAPITAL" in unicodedata.name(character, ""):
        return True
    found = confusables.is_confusable(character, greedy=True) or [{"homoglyphs": []}]
    glyphs = [each["c"] for each in found[0]["homoglyphs"]]
    return any(len(glyph) == 1 and glyph.isascii() and glyph.isalnum() for glyph in glyphs)
