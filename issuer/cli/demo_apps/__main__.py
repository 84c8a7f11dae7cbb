"""Runs one of the applications: `python -P -m issuer.cli.demo_apps NAME`; its settings are JSON on standard input."""

import json
import sys
from importlib import import_module
from urllib.parse import urlsplit

import uvicorn

from issuer.cli.demo_apps.settings import Settings


def main() -> None:
    """Run it until it is stopped."""
    name, settings = sys.argv[1], Settings(**json.load(sys.stdin))  # not as arguments: one is a secret
    application = import_module(f"issuer.cli.demo_apps.{name}").create_app(settings)
    url = urlsplit(settings.here)
    uvicorn.run(application, host=url.hostname or "", port=url.port or 0, access_log=False)


if __name__ == "__main__":
    main()
