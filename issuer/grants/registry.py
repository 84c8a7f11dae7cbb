"""The grants of the token endpoint: a new one is a module beside this and one line here."""

from collections.abc import Mapping

from issuer.grants import client_credentials, password, refresh_token
from issuer.grants.context import Grant
from issuer.oauth import GrantType

GRANTS: Mapping[GrantType, Grant] = {
    grant.type: grant
    for grant in (
        client_credentials.GRANT,
        password.GRANT,
        refresh_token.GRANT,
    )
}
