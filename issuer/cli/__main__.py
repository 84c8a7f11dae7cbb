"""`python -m issuer.cli`: the same as the command `issuer`."""

from issuer.cli import main

main()
