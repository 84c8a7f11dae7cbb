"""The shell lines of the documents, by heading."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def sections(name: str) -> dict[str, str]:
    """Return the bash lines under each heading of a document."""
    first, *parts = re.split(r"^##+ (.*)$", (DOCS / name).read_text("utf-8"), flags=re.MULTILINE)
    texts = {"": first, **dict(zip(parts[::2], parts[1::2], strict=True))}
    return {
        heading: "".join(re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        for heading, text in texts.items()
    }
