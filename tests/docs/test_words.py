"""Texts for people use the field's words: the documents, help texts, OpenAPI documents, metrics and make targets.

Each row of WORDS has a pattern that must not occur and the word to write instead. Code between backquotes, fenced
blocks and addresses are not searched.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi.testclient import TestClient
from support.documents import script

from issuer.cli.commands import app as commands
from issuer.settings.settings import Settings
from jwks_verifier import JwksCache
from verifier_example import app as example
from verifier_example import settings as example_settings
from verifier_example.metrics import Metrics

ROOT = Path(__file__).parents[2]
WORDS = {
    r"mend(s|ed|ing)?": "fix",
    r"car(e|es|ed|ing) (for|of)": "maintain",
    r"troubles?": "failure, problem",
    r"figures?": "number, metric",
    r"famil(y|ies)": "session",
    r"dead": "expired, no longer valid",
    r"(good|valid|signs?|accepted) no more": "no longer valid",
    r"tokens? (that )?(is|are) out": "issued",
    r"private hal(f|ves)|halves": "private key",
    r"by hand": "manually",
    r"(take|takes|taken|took|taking) (it |them |this )?up": "applied, picked up, loaded",
    r"hear(d|s)? of": "knows, has loaded",
    r"(move|moves|moved|moving)[ -]in": "import",
    r"arrivals?": "imported users",
    r"(take|takes|taken|took|taking) in": "import, accept",
    r"(leave|leaves|let|lets|letting) go": "delete, release",
    r"aside": "on the signing thread",
    r"(the|its|our) (keeping|noting|lineage|means)": "reconcile loop, ring marker, history, request context",
    r"lineage": "history",
    r"the house|rooms": "code layout, packages",
    r"usual|aims?|reach(?= *\|)": "baseline, target, stretch",
    r"in peace": "without downtime",
    r"told (this )?once": "shown once",
    r"happenings?": "event",
}
EXCEPTIONS = {
    ("docs/glossary.md", "family"): "the entry that explains the word of the code, and the word of RFC 9700",
    ("README.md", "families"): "the table of packages, in the words of the code",
    ("docs/operate.md", "dead"): "dead rows is PostgreSQL's own term",
}
QUESTION = re.compile(r"[^.|\n]*\w\?(?=\s|$)(?! *\|)", re.MULTILINE)
SENTENCE_WITH_WHO = re.compile(r"(?:^|[.;:] )Who [^?.]*\.", re.MULTILINE)


def prose(markdown: str) -> str:
    """Return a text without its code and addresses, each word separated by one blank."""
    text = re.sub(r"^```.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->|`[^`]*`|\]\([^)]*\)|https?://\S+", " ", text, flags=re.DOTALL)
    return re.sub(r"(?<!\n)\n(?!\n|[-|#])", " ", text)


def help_texts() -> Iterator[str]:
    """Yield the help of every command, argument and option."""
    waiting: list[Any] = [typer.main.get_command(commands)]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        yield command.help or ""
        yield from (getattr(each, "help", None) or "" for each in command.params)


def described(document: Any) -> Iterator[str]:
    """Yield every summary, description and title of an OpenAPI document."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            if name in {"summary", "description", "title"} and isinstance(value, str):
                yield value
            else:
                yield from described(value)
    elif isinstance(document, list):
        for each in document:
            yield from described(each)


def texts() -> dict[str, str]:
    """Return every text that is checked, by the name that a failure shows."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]
    found = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in pages}
    found["docs/alerts.yml"] = "\n".join(
        re.findall(r"(?:summary|description): (.*)", (ROOT / "docs" / "alerts.yml").read_text("utf-8"))
    )
    found["make help"] = "\n".join(
        re.findall(r"## (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    found["help of the commands"] = "\n".join(help_texts())
    for settings in (Settings, example_settings.Settings):
        meanings = (field.description or "" for field in settings.model_fields.values())
        found[f"settings, {settings.__module__}"] = "\n".join(meanings)
    applications = {"the issuer": script("reference").issuers(), "the example service": example.create_app()}
    found |= {
        f"OpenAPI of {name}": "\n\n".join(described(app.openapi())) for name, app in applications.items()
    }
    return found


def unwanted(pattern: str, checked: Mapping[str, str]) -> list[str]:
    """Return each place where a word is, with the words around it."""
    return [
        f"{name}: …{text[max(0, each.start() - 40) : each.end() + 30]}…"
        for name, text in checked.items()
        for each in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", text, re.IGNORECASE)
        if (name, each[0].lower()) not in EXCEPTIONS
    ]


@pytest.fixture(scope="module")
def checked() -> dict[str, str]:
    return {name: prose(text) for name, text in texts().items()}


@pytest.mark.parametrize("pattern", WORDS)
def test_texts_for_people_use_the_word_of_the_field(pattern: str, checked: Mapping[str, str]) -> None:
    assert not unwanted(pattern, checked), f"write: {WORDS[pattern]}"


def test_the_help_of_metrics_uses_the_words_of_the_field(web: TestClient) -> None:
    cache = JwksCache("https://issuer.example")
    pages = {"the issuer": web.get("/metrics").text, "the example service": Metrics().render(cache).decode()}
    helped = {
        name: "\n".join(re.findall(r"^# HELP (.*)$", text, re.MULTILINE)) for name, text in pages.items()
    }
    assert all(helped.values())
    assert not [each for pattern in WORDS for each in unwanted(pattern, helped)]


def test_a_sentence_does_not_begin_with_a_person_that_is_none(checked: Mapping[str, str]) -> None:
    found = {name: SENTENCE_WITH_WHO.findall(text) for name, text in checked.items()}
    assert not {name: each for name, each in found.items() if each}, "write: an attacker who…, whoever…"


def test_no_sentence_is_a_question(checked: Mapping[str, str]) -> None:
    found = {name: QUESTION.findall(text) for name, text in checked.items()}
    assert not {name: each for name, each in found.items() if each}, "write what happens, and what to do"


def test_every_exception_is_needed(checked: Mapping[str, str]) -> None:
    for name, word in EXCEPTIONS:
        assert re.search(rf"\b{word}\b", checked[name], re.IGNORECASE), (name, word)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("the `family` of\nit", "the   of it"),
        ("see [a](dead.md)", "see [a "),
        ("a\n```bash\ndead\n```\n\nb\n- c", "a\n\n\nb\n- c"),
    ],
)
def test_code_and_addresses_are_not_searched(text: str, left: str) -> None:
    assert prose(text) == left
