"""The documents: their shell lines by heading, their programs by name, and the scripts in `docs/` as modules."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"
_BLOCKS = re.MULTILINE | re.DOTALL


def sections(name: str) -> dict[str, str]:
    """Return the bash lines under each heading of a document."""
    first, *parts = re.split(r"^##+ (.*)$", (DOCS / name).read_text("utf-8"), flags=re.MULTILINE)
    texts = {"": first, **dict(zip(parts[::2], parts[1::2], strict=True))}
    return {
        heading: "".join(re.findall(r"^```bash\n(.*?)^```$", text, _BLOCKS))
        for heading, text in texts.items()
    }


def programs(name: str) -> dict[str, str]:
    """Return the programs of a document by their file names, which are in the comments of their first lines.

    Blocks of Python without a name continue the first program.
    """
    found: dict[str, str] = {}
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", (DOCS / name).read_text("utf-8"), _BLOCKS):
        if file := re.match(r"(?:#|//) ([\w.]+)\n", code):
            found[file[1]] = code
        elif language == "python":
            found[next(iter(found))] += f"\n\n{code}"
    return found


def script(name: str) -> ModuleType:
    """Return a script of `docs/` as a module."""
    spec = spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module
