"""Runs one of the applications: `python -P -m issuer.cli.demo_apps NAME DESCRIPTOR`.

It gets the socket that listens for it, and its settings as JSON on standard input.
"""

import json
import socket
import sys
from importlib import import_module

import uvicorn

from issuer.cli.demo_apps.settings import Settings


def main() -> None:
    """Run it until it is stopped."""
    _, name, descriptor = sys.argv
    settings = Settings(**json.load(sys.stdin))  # not as arguments: one is a secret
    application = import_module(f"issuer.cli.demo_apps.{name}").create_app(settings)
    config = uvicorn.Config(application, access_log=False)
    uvicorn.Server(config).run([socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main()
