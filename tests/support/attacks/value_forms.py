"""Forms of member values for `test_standards` and `test_key_standards`, and changed documents."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

Jwk = dict[str, Any]
ABSENT = object()


class Form(NamedTuple):
    """A value of a member, and whether a verifier accepts the document with it."""

    member: str
    value: Any
    taken: bool
    section: str

    @property
    def name(self) -> str:
        shown = "absent" if self.value is ABSENT else f"{self.value!r:.40}"
        return f"{self.member} {shown} ({self.section})"


def forms(section: str, member: str, *, right: Any = (), wrong: Any = ()) -> Iterator[Form]:
    for each in right:
        yield Form(member, each, taken=True, section=section)
    for each in wrong:
        yield Form(member, each, taken=False, section=section)


def changed(members: Jwk, form: Form) -> Jwk:
    rest = {name: each for name, each in members.items() if name != form.member}
    return rest if form.value is ABSENT else {**rest, form.member: form.value}


class Raw:
    """A number in a JSON notation that Python would not write."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def spelled(members: Jwk) -> bytes:
    """Serialize to JSON, with each Raw as given."""
    marks = {f"raw-{at}": each.text for at, each in enumerate(members.values()) if isinstance(each, Raw)}
    named = iter(marks)
    text = json.dumps(
        {name: next(named) if isinstance(each, Raw) else each for name, each in members.items()}
    )
    for mark, raw in marks.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode()


NOT_TEXT: tuple[Any, ...] = (1, 1.5, True, None, [], ["x"], {})
