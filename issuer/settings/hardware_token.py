"""What a PKCS#11 token with the private keys needs of the settings."""

from pathlib import Path

from issuer.fixes import Fix, Kind


class MissingSettings(ValueError):
    """Settings are missing; the message names them, and `fix` has their lines."""

    def __init__(self, message: str, fix: Fix) -> None:
        super().__init__(message)
        self.fix = fix


def require_complete(module: Path | None, token: str | None, *, has_pin: bool) -> tuple[Path, str]:
    """Return module and label of a token whose PIN is given; raise MissingSettings."""
    if module and token and has_pin:
        return module, token
    needed = (
        (module, "ISSUER_PKCS11_MODULE", "=/usr/lib/MODULE.so", ""),
        (token, "ISSUER_PKCS11_TOKEN", "=LABEL", ""),
        (has_pin, "ISSUER_KEYS_PASSPHRASE_FILE", "=FILE", " or ISSUER_KEYS_PASSPHRASE, the PIN"),
    )
    missing = [(name + value, name + more) for given, name, value, more in needed if not given]
    lines, names = zip(*missing, strict=True)
    raise MissingSettings(
        f"ISSUER_KEYS is pkcs11, which needs more settings: {'; '.join(names)}",
        Fix(Kind.PKCS11_SETTINGS, "\n".join(lines)),
    )
