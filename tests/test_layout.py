"""The code layout: what packages contain, where their tests are, and how long files and functions may be.

Imports between packages are checked by import-linter, calls of the system clock by ruff; both in pyproject.toml.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ISSUER, EXAMPLE, TESTS = ROOT / "issuer", ROOT / "verifier_example", ROOT / "tests"
LIBRARY = EXAMPLE / "src" / "jwks_verifier"

CODE_IN_INIT: Mapping[str, str] = {
    "cli": "the entry point takes the current folder off the import path before it imports anything",
    "connections": "a library of its own, shared with the example through a link",
    "database/migrations": "alembic finds the migrations by the path of this package",
}
"""Packages whose `__init__.py` contains more than a docstring, with the reason."""

NO_PACKAGES: Mapping[str, str] = {"database/migrations/versions": "alembic loads these files by path"}

OTHER_TESTS: Mapping[str, str] = {
    "benchmarks": "scripts outside of the packages",
    "docs": "documents and deployment files",
    "interop": "third-party libraries and gateways",
    "servers": "real processes, through commands and HTTP",
    "soak": "many real processes with injected faults",
    "support": "what tests share",
    "verifier": "the library `jwks_verifier`, and the example service",
}
"""Folders of tests that mirror no package of the issuer, with what they test."""

LONGEST_TEST_FILE, LONGEST_FILE, LONGEST_FILE_OF_LIBRARY, LONGEST_FUNCTION = 400, 300, 250, 40

FETCHED = frozenset({"fetched", "node_modules"})
"""Folders with packages of others, which `make interop` makes."""

OTHER_NAMES: frozenset[str] = frozenset({"cryptography", "private_key_jwt", "sub", "uvicorn"})
"""Names in docstrings of modules that are not of this project; a first part stands for all below it."""


@cache
def python_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.py")) if not FETCHED.intersection(path.parts)]


@cache
def source(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(source(path))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(folder: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in python_files(folder):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield relative(path), node


FOLDERS = sorted(
    {path.parent.relative_to(ISSUER).as_posix() for path in python_files(ISSUER)} - {".", *NO_PACKAGES}
)
"""The packages of the issuer."""


@pytest.mark.parametrize("package", FOLDERS)
def test_a_package_describes_itself_and_exports_nothing(package: str) -> None:
    module = tree(ISSUER / package / "__init__.py")
    owned, _, left = (ast.get_docstring(module) or "").partition("\n\n")
    assert owned
    assert left, "a second paragraph says what is left to which neighbour"
    exports = len(module.body) > 1
    assert exports == (package in CODE_IN_INIT), (
        "with imports here, each module would import the whole package"
    )


def test_the_readme_lists_each_package() -> None:
    table = source(ROOT / "README.md").partition("\n## Code layout\n")[2].partition("\n\n`")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = sorted(re.findall(r"`(\w+)/`", "".join(rows)))
    assert listed == [name for name in FOLDERS if "/" not in name]


def test_each_folder_of_tests_mirrors_a_package() -> None:
    folders = {path.parent for path in python_files(TESTS) if path.name.startswith("test_")} - {TESTS}
    for folder in folders:
        name = folder.relative_to(TESTS).as_posix()
        assert name in FOLDERS or name in OTHER_TESTS, name
    for name in OTHER_TESTS:
        assert (TESTS / name).is_dir()
        assert not (ISSUER / name).exists()


def test_a_test_file_with_the_name_of_a_module_is_in_its_place() -> None:
    """Other files are named after their subject, which takes several modules."""
    found = {path.relative_to(ISSUER).with_suffix("").as_posix() for path in python_files(ISSUER)}
    names = {module.rpartition("/")[2] for module in found}
    for path in python_files(TESTS):
        folder, name = path.parent.relative_to(TESTS).as_posix(), path.stem.removeprefix("test_")
        if path.name.startswith("test_") and folder not in OTHER_TESTS and name in names:
            assert f"{folder}/{name}".removeprefix("./") in found, relative(path)


def test_no_test_imports_another() -> None:
    """What tests share is in `support`, or in modules of a folder that are no tests."""
    imported = {
        f"{relative(path)}: {name}"
        for path in python_files(TESTS)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(each.name for each in node.names)]
        if any(part.startswith("test_") for part in name.split("."))
    }
    assert imported == set()


def test_the_slowest_files_exist() -> None:
    """One that was renamed would no longer run first."""
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree(TESTS / "conftest.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SLOWEST"
    )
    assert [name for name in listed if not (TESTS / name).is_file()] == []
    assert len(listed) == len(set(listed))


def test_no_two_tests_of_a_file_have_the_same_name() -> None:
    """The second would replace the first, which would never run."""
    found = Counter((file, node.name) for file, node in functions(TESTS) if node.name.startswith("test_"))
    assert [each for each, count in found.items() if count > 1] == []


def test_files_are_short() -> None:
    longer = {
        relative(path)
        for folder, longest in (
            (TESTS, LONGEST_TEST_FILE),
            (ISSUER, LONGEST_FILE),
            (EXAMPLE, LONGEST_FILE),
            (LIBRARY, LONGEST_FILE_OF_LIBRARY),
        )
        for path in python_files(folder)
        if len(source(path).splitlines()) > longest
    }
    assert longer == set()


def test_functions_are_short() -> None:
    longer = {
        f"{file} {node.name}"
        for file, node in (*functions(ISSUER), *functions(EXAMPLE))
        if node.end_lineno and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert longer == set()


def modules() -> set[str]:
    """Return the dotted names of all modules, and their endings: `keyring.policy` and `policy`."""
    parts = [
        path.relative_to(ROOT).with_suffix("").parts
        for folder in (ISSUER, EXAMPLE, TESTS)
        for path in python_files(folder)
    ]
    packages = [each[:-1] for each in parts]
    return {".".join(each[at:]) for each in [*parts, *packages] for at in range(len(each))}


def test_docstrings_of_modules_name_what_exists() -> None:
    """A name in backticks is a module, or something that the file itself contains."""
    known, missing = modules() | OTHER_NAMES, []
    for path in (each for folder in (ISSUER, EXAMPLE, TESTS) for each in python_files(folder)):
        docstring = ast.get_docstring(tree(path)) or ""
        rest = source(path).replace(docstring, "", 1)
        missing += [
            f"{relative(path)}: {name}"
            for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`", docstring)
            if not known & {name, name.rpartition(".")[0], name.partition(".")[0]} and name not in rest
        ]
    assert missing == []


@pytest.mark.parametrize("package", ["account", "oauth", "pages"])
def test_endpoints_are_handed_their_domains_not_the_whole_issuer(package: str) -> None:
    takers = [path.name for path in python_files(ISSUER / "web" / package) if "IssuerDep" in source(path)]
    assert not takers
