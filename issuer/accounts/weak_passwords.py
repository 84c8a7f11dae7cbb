"""Passwords that are easy to guess: common ones, and common words or the username with a few digits and signs.

The list of the most common passwords is in `passwords`; all other rules are in `user`.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

WORDS = frozenset((Path(__file__).parent / "common_words.txt").read_text("utf-8").split())
"""The most frequent words in lists of leaked passwords, without digits and signs around them."""
ROWS = (
    "01234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiop[]",
    "qwertzuiopü",
    "azertyuiop",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "yxcvbnm",
    "йцукенгшщзхъ",
    "фывапролджэ",
    "ячсмитьбю",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/",
    "!@#$%^&*()",
)
"""Rows of keys, and the alphabet."""
LENGTH_MOST = 64
"""Characters beyond which only the list is used: of a long repetition the length has to be guessed, too."""
RUN_LEAST = 3
RUNS_MOST = 4
TRIMMINGS_MOST = 8
"""Characters around a word with which it is still easy to guess: a year, a few digits and signs."""
DIFFERENT_LEAST = 5
"""Different characters that a password must have."""
PERIOD_MOST = 4
"""Characters of a part that is repeated."""
_READ_AS = {
    "@": "a",
    "4": "a",
    "3": "e",
    "0": "o",
    "$": "s",
    "5": "s",
    "7": "t",
    "+": "t",
    "9": "g",
    "8": "b",
}
_SIGNS = [str.maketrans({**_READ_AS, "1": letter, "!": letter, "|": letter}) for letter in "il"]
WORD_MOST = 32
ROW_MOST = max(map(len, ROWS))
_ROWS = [*ROWS, *(row[::-1] for row in ROWS)]
_BEFORE = re.compile(r"\A[\W\d_]+")
_AFTER = re.compile(r"[\W\d_]+\Z")
_WITHIN = re.compile(r"[\W\d_]+")


def is_easy(password: str, username: str, common: frozenset[str]) -> bool:
    """Return whether a password is easy to guess: a `common` one, or a word with a few characters around."""
    folded, name = password.casefold(), username.casefold()
    if folded in common:
        return True
    if len(folded) > LENGTH_MOST:
        return False
    if len(set(folded)) < DIFFERENT_LEAST or _is_run(folded):
        return True
    if len(name) >= RUN_LEAST and name in folded and _is_trimming(folded.replace(name, "")):
        return True
    words = (
        WORDS | _words_of(common) | {part for part in (name, *_WITHIN.split(name)) if len(part) >= RUN_LEAST}
    )
    readings = {
        core for text in {folded, _plain(folded)} for core, rest in _readings(text) if _is_trimming(rest)
    }
    return any(_is_made_of(each, words) for core in readings for each in (core, core[::-1]))


def _plain(folded: str) -> str:
    """Return the letters without their marks, and in their usual width."""
    return "".join(each for each in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(each))


def _readings(folded: str) -> Iterator[tuple[str, str]]:
    """Yield the letters of a password and the other characters, for each way to read signs as letters."""
    without_end = _AFTER.sub("", folded)
    for core in (without_end, _BEFORE.sub("", without_end)):
        around = folded.replace(core, "", 1)
        for signs in _SIGNS:
            yield core.translate(signs), around
        yield _WITHIN.sub("", core), around + "".join(_WITHIN.findall(core))


@lru_cache(maxsize=2)
def _words_of(common: frozenset[str]) -> frozenset[str]:
    """Return the common passwords without leading and trailing digits and signs."""
    words = (_BEFORE.sub("", _AFTER.sub("", each)) for each in common)
    return frozenset(word for word in words if len(word) > RUN_LEAST)


def _is_made_of(core: str, words: frozenset[str]) -> bool:
    """Whether `core` is one of the words, two of them, or one several times."""
    for length in range(RUN_LEAST, min(len(core), WORD_MOST) + 1):
        first, rest = core[:length], core[length:]
        if first in words and (not rest or rest in words or _repeats(core, length)):
            return True
    return False


def _is_trimming(rest: str) -> bool:
    return len(rest) <= TRIMMINGS_MOST or len(set(rest)) < DIFFERENT_LEAST or _is_run(rest)


def _repeats(text: str, period: int) -> bool:
    return text == (text[:period] * len(text))[: len(text)]


def _is_run(text: str) -> bool:
    """Whether `text` is a few runs along the keys or the alphabet, one after the other, or a short part repeated."""
    if any(_repeats(text, period) for period in range(1, PERIOD_MOST + 1)):
        return True
    for _ in range(RUNS_MOST):
        text = text[_run_at_start(text) :]
    return len(text) < RUN_LEAST


def _run_at_start(text: str) -> int:
    """Return how many characters at the start go along a row; 0 if they are too few to be a run."""
    lengths = range(min(len(text), ROW_MOST), RUN_LEAST - 1, -1)
    return next((length for length in lengths if any(text[:length] in row for row in _ROWS)), 0)
