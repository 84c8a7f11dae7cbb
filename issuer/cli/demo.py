"""`issuer demo`: the whole story on this machine, with real servers."""


def demo() -> None:
    """Show the issuer and the example service at work."""
