"""Reads YAML and JSON documents that people write, and says where something in them is wrong.

Only what JSON has as well is accepted: no tags, anchors or merged keys, and no member twice. What a document means is
decided by its reader, such as `client_file`.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field

import yaml

from issuer.strict_json import BadDocument

_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # the library has no types
    """Refuses aliases: a short document could repeat its parts without end."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node; raise ComposerError for an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


@dataclass(frozen=True)
class Located:
    """A value of a document, and its place there."""

    node: yaml.Node = field(repr=False)
    path: str = ""

    def refused(self, reason: object) -> BadDocument:
        """Return the error for this value."""
        at = f", {self.path}" if self.path else ""
        return BadDocument(f"line {self.node.start_mark.line + 1}{at}: {reason}")

    def members(self, known: Collection[str] | None = None) -> dict[str, "Located"]:
        """Return the members of an object; raise BadDocument for one that is repeated, or not `known`."""
        if not isinstance(self.node, yaml.MappingNode) or self.node.tag != f"{_TAG}map":
            raise self.refused("must be an object")
        found: dict[str, Located] = {}
        for key, value in self.node.value:
            name = Located(key, self.path).text()
            member = Located(value, f"{self.path}.{name}" if self.path else name)
            at_key = Located(key, member.path)
            if name in found:
                raise at_key.refused("is there twice")
            if known is not None and name not in known:
                raise at_key.refused(f"is unknown; known are {', '.join(known)}")
            found[name] = member
        return found

    def items(self) -> list["Located"]:
        """Return the items of a list; raise BadDocument."""
        if not isinstance(self.node, yaml.SequenceNode) or self.node.tag != f"{_TAG}seq":
            raise self.refused("must be a list")
        return [Located(item, f"{self.path}[{number}]") for number, item in enumerate(self.node.value)]

    def text(self) -> str:
        """Return a string; raise BadDocument."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != f"{_TAG}str":
            raise self.refused("must be a string; put it in quotes if it looks like something else")
        # JSON may write one character as two escapes.
        return str(self.node.value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def flag(self) -> bool:
        """Return true or false; raise BadDocument."""
        is_flag = isinstance(self.node, yaml.ScalarNode) and self.node.tag == f"{_TAG}bool"
        text = str(self.node.value).lower() if is_flag else ""
        if text not in _TRUE | _FALSE:
            raise self.refused("must be true or false")
        return text in _TRUE

    def value(self) -> object:
        """Return an object, a list, a string or a flag, with all that is in it; raise BadDocument."""
        match self.node:
            case yaml.MappingNode():
                return {name: member.value() for name, member in self.members().items()}
            case yaml.SequenceNode():
                return [item.value() for item in self.items()]
            case _ if self.node.tag == f"{_TAG}bool":
                return self.flag()
        return self.text()


def read_located(content: bytes, *, is_json: bool) -> Located:
    """Return the document in `content`, which is UTF-8; raise BadDocument."""
    try:
        text = content.decode("utf-8-sig")
        if is_json:
            json.loads(text)
            # Valid JSON has no tabs in strings, and YAML has none between values.
            text = text.replace("\t", " ")
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise BadDocument(f"{line}{error.problem}") from None
    except RecursionError:
        raise BadDocument("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadDocument(" ".join(str(error).split())) from None
    if node is None:
        raise BadDocument("it is empty")
    return Located(node)
