"""Documents that people write in YAML or JSON: what is accepted, and the place of what is not."""

import json

import pytest

from issuer.administration.yaml_nodes import Located, read_located
from issuer.strict_json import BadDocument

NESTED = 5000


def read(text: str, *, is_json: bool = False) -> Located:
    return read_located(text.encode(), is_json=is_json)


def test_values_are_those_that_json_has() -> None:
    document = read("a: text\nb: [x, 'yes', true]\nc: {d: no, e: \"\\u00e9\"}\n")
    assert document.value() == {"a": "text", "b": ["x", "yes", True], "c": {"d": False, "e": "é"}}
    assert document.members(("a", "b", "c"))["b"].items()[1].text() == "yes"


def test_json_is_read_as_every_parser_of_json_does() -> None:
    text = '\ufeff{\t"a/b": "\\/ \\ud83d\\ude00",\n\t"c": ["\\t"], "d": {}}'
    assert read(text, is_json=True).value() == json.loads(text.lstrip("\ufeff"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("# nothing\n", "it is empty"),
        ("a: 1", "line 1, a: must be a string; put it in quotes"),
        ("a:\n  b: 2026-01-01", "line 2, a.b: must be a string"),
        ("a: [x,\n  null]", r"line 2, a\[1\]: must be a string"),
        ("a: !!python/object:os.system x", "line 1, a: must be a string"),
        ("a: !custom {b: c}", "line 1, a: must be an object"),
        ("a: !custom [b]", "line 1, a: must be a list"),
        ("a: x\nb: y\na: z", "line 3, a: is there twice"),
        ("b: {c: x, c: x}", "line 1, b.c: is there twice"),
        ("1: x", "line 1: must be a string"),
        ("[a]: x", "line 1: must be a string"),
        ("a: &x [b]\nc: *x", "line 2: aliases are not accepted"),
        ("a: &x {b: c}\nd:\n  <<: *x", "line 3: aliases are not accepted"),
        ("a: [", "line 1: expected the node content"),
        ("a: x\n--- \nb: y", "line 2: but found another document"),
        ("a: \x07", "special characters are not allowed"),
        ("\ud800", "surrogates not allowed"),
    ],
)
def test_what_json_does_not_have_and_what_is_ambiguous_is_refused(text: str, reason: str) -> None:
    with pytest.raises((BadDocument, UnicodeEncodeError), match=reason):
        read(text).value()


@pytest.mark.parametrize("text", ["{a: b}", '{"a": 1,}', '{"a": "\t"}', "[" * NESTED, "{'a': 'b'}"])
def test_json_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadDocument):
        read(text, is_json=True)


def test_a_repeated_member_of_json_is_refused_with_its_line() -> None:
    with pytest.raises(BadDocument, match="line 3, a: is there twice"):
        read('{"a": "x",\n"b": "y",\n"a": "z"}', is_json=True).value()


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(BadDocument, match="nested too deeply"):
        read("[" * NESTED + "]" * NESTED)


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(BadDocument, match="utf-8"):
        read_located(b"a: \xff", is_json=False)


def test_a_known_member_that_is_missing_is_left_to_the_reader_and_an_unknown_one_is_refused() -> None:
    document = read("clients:\n- nam: x")
    assert set(document.members(("clients", "other"))) == {"clients"}
    with pytest.raises(BadDocument, match=r"line 2, clients\[0\]\.nam: is unknown; known are name, scope"):
        document.members()["clients"].items()[0].members(("name", "scope"))


def test_values_of_other_kinds_are_refused() -> None:
    document = read("a: x\nb: [x]\nc: true")
    for name, ask in (("a", Located.flag), ("a", Located.items), ("b", Located.text), ("c", Located.members)):
        with pytest.raises(BadDocument, match=f"{name}: must be"):
            ask(document.members()[name])
