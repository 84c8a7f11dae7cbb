"""ID tokens that come back as an id_token_hint: OpenID Connect Core 3.1.2.1 and RP-Initiated Logout section 2.

They are accepted when they have expired and after their key has left the JWKS; they authenticate nobody. Issuing them
is left to `id_tokens`, keeping the keys to `keyring.retired_keys`.
"""

from dataclasses import dataclass
from datetime import datetime

from issuer.keyring.retired_keys import RetiredKeys
from issuer.signing.public_key import PublicKey
from issuer.tokens.claims import IdTokenClaims
from issuer.tokens.signed_jwt import ID_TOKEN, JwtSigner


@dataclass(frozen=True)
class Hint:
    """Which session of which user at which client an id_token was issued for."""

    sub: str
    sid: str
    client_id: str


class Hints:
    """Reads hints."""

    def __init__(self, jwt_signer: JwtSigner, retired_keys: RetiredKeys) -> None:
        self._signer = jwt_signer
        self._retired_keys = retired_keys

    def read(self, token: str, now: datetime) -> Hint:
        """Return what an id_token of this issuer says, however old it is; raise ValueError for any other text.

        A token of a revoked key is refused. The caller compares the client. Raise StoreError or KeyRingError if that
        cannot be decided here at the moment.
        """
        members = self._signer.verify_by(lambda kid: self._key(kid, now), ID_TOKEN, token)
        try:
            claims = IdTokenClaims.parsed(members)
        except (KeyError, TypeError) as error:
            raise ValueError("the token is not valid") from error
        return Hint(claims.sub, claims.sid, claims.aud)

    def _key(self, kid: str, now: datetime) -> PublicKey:
        key = self._signer.find_key(kid, now)
        if key is None:
            return self._retired_keys.find(kid)
        if key.revoked_at is not None:
            raise KeyError(kid)
        return key
