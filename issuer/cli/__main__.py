"""The same as the command `issuer`, for `python -P -m issuer.cli`."""

from issuer.cli import main

main()
