"""The signing backend that the settings name: PEM files, PEM text in the database, or a PKCS#11 token.

The backends are in `signing`; `wiring` gives the chosen one to the key ring.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from issuer.database.database import Database
from issuer.errors import KeyUnavailable
from issuer.fixes import Fix, Kind, quoted
from issuer.settings.settings import BadSettings, Settings
from issuer.signing.pem import PemSigner, PemStorage
from issuer.signing.pem_database import PemDatabase
from issuer.signing.pem_directory import PemDirectory
from issuer.signing.signer import Signer

# With this interpreter: another `pip` would install it for another one.
INSTALL_PKCS11 = Fix(Kind.PKCS11_PACKAGE, f"{quoted(sys.executable)} -m pip install 'python-pkcs11>=0.10'")


def signer_for(settings: Settings, database: Database) -> Signer:
    """Return the backend that the settings name; raise BadSettings or KeyUnavailable. It opens nothing yet."""
    return token_signer_for(settings) or PemSigner(
        pem_storage_for(settings, database), partial(_passphrase, settings)
    )


def token_signer_for(settings: Settings) -> Signer | None:
    """Return the PKCS#11 token, if the settings name one; raise BadSettings. It opens nothing yet."""
    token = settings.hardware_token()
    return _token_signer(*token, lambda: _passphrase(settings) or "") if token else None


def pem_storage_for(settings: Settings, database: Database) -> PemStorage:
    """Return where the PEM text of private keys is kept that are not in a PKCS#11 token."""
    return PemDatabase(database) if settings.keys == "database" else PemDirectory(Path(settings.keys))


def storage_error_of(settings: Settings) -> Callable[[], KeyUnavailable | None]:
    """Return a function that returns why no new key can be stored in the key directory; None for other storage."""
    directory = settings.key_directory
    return PemDirectory(directory).storage_error if directory else lambda: None


def _token_signer(module: Path, label: str, pin: Callable[[], str]) -> Signer:
    try:
        # Only here: what they import is an extra.
        from issuer.signing.pkcs11.session import Token  # noqa: PLC0415
        from issuer.signing.pkcs11.signer import Pkcs11Signer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"ISSUER_KEYS is pkcs11, which needs python-pkcs11; run: {INSTALL_PKCS11}", fix=INSTALL_PKCS11
        ) from error
    return Pkcs11Signer(Token(module, label, pin))


def _passphrase(settings: Settings) -> str | None:
    """Return the passphrase as it is now: its file may have been changed by an operator since the start."""
    try:
        return settings.passphrase()
    except BadSettings as error:
        raise KeyUnavailable(str(error)) from error
