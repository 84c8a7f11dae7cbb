"""The grants of the token endpoint: a new one is a module of this package and one line here."""

from collections.abc import Mapping

from issuer.grants import authorization_code, client_credentials, password, refresh_token
from issuer.grants.context import Grant

GRANTS: Mapping[str, Grant] = {
    grant.type.value: grant
    for grant in (
        client_credentials.GRANT,
        password.GRANT,
        refresh_token.GRANT,
        authorization_code.GRANT,
    )
}
