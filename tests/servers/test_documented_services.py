"""The services of docs/fastapi.md and docs/from-the-tutorial.md, built from their pages, run with a real issuer.

What else docs/fastapi.md shows is tested in `docs/test_fastapi_page`, without an issuer.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.components import require
from support.documents import DOCS, programs, sections
from support.shell_lines import Lines

START = sections("start.md")
RUNNING = ["Configure", "Start the issuer", "Add a user and a client", "Get tokens"]
"""The sections of getting started that both pages begin with."""
TUTORIAL = Path(__file__).parents[1] / "docs" / "fastapi_tutorial" / "tutorial004.txt"


def page(name: str) -> str:
    return "".join([*(START[heading] for heading in RUNNING), *sections(name).values()])


def tutorial_files() -> Mapping[str, str]:
    (diff,) = re.findall(
        r"^```diff\n(.*?)^```$", (DOCS / "from-the-tutorial.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    files = {
        "main.py": TUTORIAL.read_text("utf-8"),
        "tutorial.diff": diff,
        **programs("from-the-tutorial.md"),
    }
    return {f"tutorial/{name}": text for name, text in files.items()}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Lines]]:
    """Both pages, begun."""
    files = {"fastapi.md": programs("fastapi.md"), "from-the-tutorial.md": tutorial_files()}
    folders = {name: tmp_path_factory.mktemp("page") for name in files}
    (folders["from-the-tutorial.md"] / "tutorial").mkdir()
    lines = {name: Lines(page(name), folders[name], files=each) for name, each in files.items()}
    yield lines
    for each in lines.values():
        each.end()


def test_a_service_of_ten_lines_accepts_the_tokens_of_the_issuer(begun: Mapping[str, Lines]) -> None:
    printed = begun["fastapi.md"].printed
    assert re.search(r"bearer token is required.* 401$", printed, re.MULTILINE)
    assert re.search(r'^\{"id":"[0-9a-f-]{36}","name":"alice"\} 200$', printed, re.MULTILINE)
    assert re.search(r"^200 [0-9a-f-]{36}$", printed, re.MULTILINE)
    assert re.search(r"^3 passed", printed, re.MULTILINE)


def test_the_service_of_the_tutorial_is_converted_with_its_users_and_tokens(
    begun: Mapping[str, Lines],
) -> None:
    lines = begun["from-the-tutorial.md"]
    printed = lines.printed
    logs = [path.read_text("utf-8") for path in (lines.folder / "tutorial").glob("*.log")]
    assert len(logs) == 3
    assert "Traceback" not in "".join(logs)
    profile = '{"username":"johndoe","email":"johndoe@example.com","full_name":"John Doe","disabled":false}'
    assert printed.splitlines().count(profile) == 3, "before, and in the overlap with both tokens"
    assert "accounts made: 1" in printed
    assert '{"detail":"Could not validate credentials"} 401' in printed
    assert '[{"item_id":"Foo","owner":"johndoe"}] 200' in printed


def test_the_diff_fits_an_older_file_of_the_tutorial_as_well(tmp_path: Path) -> None:
    require("patch")
    current = TUTORIAL.read_text("utf-8")
    older = current.replace("UTC, datetime, timedelta", "datetime, timedelta, timezone")
    older = older.replace("(UTC)", "(timezone.utc)")
    converted = set()
    for name, text in {"current": current, "older": older}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "main.py").write_text(text, "utf-8")
        (folder / "tutorial.diff").write_text(tutorial_files()["tutorial/tutorial.diff"], "utf-8")
        lines = sections("from-the-tutorial.md")["The service"]
        done = subprocess.run(["bash", "-ec", lines], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        converted.add((folder / "main.py").read_text("utf-8"))
    assert older.count("timezone") == 3
    assert len(converted) == 1


def test_the_converted_service_has_nothing_left_of_what_goes(begun: Mapping[str, Lines]) -> None:
    lines = begun["from-the-tutorial.md"]
    assert lines.printed
    converted = (lines.folder / "tutorial" / "main.py").read_text("utf-8")
    gone = "SECRET_KEY|ALGORITHM|fake_users_db|UserInDB|password_hash|pwdlib|TokenData|/token"
    assert not re.findall(rf"{gone}|jwt\.encode|create_access_token", converted)
    for stays in ("OAuth2PasswordBearer(", "Depends(get_current_user)", "class User(BaseModel)"):
        assert stays in converted
