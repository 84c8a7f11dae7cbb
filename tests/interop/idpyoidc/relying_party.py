"""Signs in with idpyoidc: reads one JSON line with the client's registration, then calls, and answers each on a line.

The browser and the expected results are in `test_sign_in`.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from idpyoidc.client.client_auth import ClientSecretBasic
from idpyoidc.client.defaults import DEFAULT_KEY_DEFS, DEFAULT_OIDC_SERVICES
from idpyoidc.client.rp_handler import RPHandler

SERVICES = {
    **DEFAULT_OIDC_SERVICES,
    "end_session": {"class": "idpyoidc.client.oidc.end_session.EndSession"},
}


class Client:
    """One client of one issuer, which it discovers; the library validates what it receives."""

    def __init__(self, registered: Mapping[str, str]) -> None:
        self._issuer = registered["issuer"]
        configuration = {
            "client_type": "oidc",
            "issuer": self._issuer,
            "client_id": registered["client_id"],
            "client_secret": registered["client_secret"],
            "redirect_uris": [registered["redirect_uri"]],
            "post_logout_redirect_uris": [registered["post_logout_redirect_uri"]],
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", "profile", "email", "offline_access", "items:read"],
            "client_authn_methods": {"client_secret_basic": ClientSecretBasic},
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "add_ons": {
                "pkce": {
                    "function": "idpyoidc.client.oauth2.add_on.pkce.add_support",
                    "kwargs": {"code_challenge_length": 64, "code_challenge_method": "S256"},
                }
            },
        }
        keys = {"key_defs": DEFAULT_KEY_DEFS}  # or else it writes them to the current folder
        self._handler = RPHandler(
            registered["redirect_uri"], {self._issuer: configuration}, services=SERVICES, key_conf=keys
        )
        self._state = ""

    def begin(self, scope: str) -> Mapping[str, Any]:
        url = self._handler.begin(self._issuer, req_args={"scope": scope.split()})
        self._state = dict(parse_qsl(urlsplit(url).query))["state"]
        return {"url": url}

    def finish(self, url: str) -> Mapping[str, Any]:
        done = self._handler.finalize(self._issuer, dict(parse_qsl(urlsplit(url).query)))
        require_success(done)
        return {**validated(done["id_token"]), "userinfo": done["userinfo"].to_dict()}

    def refresh(self) -> Mapping[str, Any]:
        done = self._handler.refresh_access_token(self._state)
        require_success(done)
        return validated(done["__verified_id_token"])

    def log_out(self, state: str) -> Mapping[str, Any]:
        return {"url": self._handler.logout(self._state)["url"]}


def validated(id_token: Any) -> Mapping[str, Any]:
    return {"id_token": id_token.jwt, "claims": id_token.to_dict()}


def require_success(answer: Mapping[str, Any]) -> None:
    if "error" in answer:
        raise ValueError(str(answer))


def main() -> None:
    client: Client | None = None
    for line in sys.stdin:
        given = json.loads(line)
        call = given.pop("call", None)
        try:
            if client is None:
                client, answer = Client(**given), {}
            else:
                answer = getattr(client, call)(**given)
        except Exception as error:  # noqa: BLE001 - the test shows whatever the library raises
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
