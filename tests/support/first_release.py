"""A database as the first release left it, and the statements with which that release went on beside a newer one.

The rows and statements are frozen: they are those of revision 0001, whatever became of the code since.
"""

import hashlib
import json
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from alembic import command
from sqlalchemy import Connection, text

from issuer.database.database import Database
from issuer.database.migrations import config
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import PemDirectory
from issuer.signing.public_key import PublicKey

PASSWORD = "violet otters juggle pancakes"
PASSWORD_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$d651LkXI2XvPmRNCCOGcsw$nDG7uPzPYi5ZoOrs8Gwj52OcKmI3rBoOi04VQYxZ4wY"
)

ADD_USER = (
    "INSERT INTO users (id, username, canonical_username, password_hash, scope, created_at, disabled_at)"
    " VALUES (:id, :username, :canonical_username, :password_hash, :scope, :created_at, NULL)"
)
ADD_CLIENT = (
    "INSERT INTO clients (id, name, auth_method, secret_digest, scope, audiences, created_at, disabled_at)"
    " VALUES (:id, :name, :auth_method, :secret_digest, :scope, :audiences, :created_at, NULL)"
)
ADD_FAMILY = (
    "INSERT INTO families (id, user_id, client_id, scope, audience, created_at, expires_at, ended_at, user_agent,"
    " address) VALUES (:id, :user_id, :client_id, :scope, :audience, :created_at, :expires_at, NULL, 'test', 'test')"
)
ADD_TOKEN = (
    "INSERT INTO refresh_tokens (digest, family_id, expires_at, successor_seed, used_at)"
    " VALUES (:digest, :family_id, :expires_at, :successor_seed, NULL)"
)
ADD_RING = "INSERT INTO key_ring (id, version, document) VALUES (1, :version, :document)"
SAVE_RING = "UPDATE key_ring SET version = :version, document = :document WHERE version = :before"
ADD_PRIVATE_KEY = "INSERT INTO private_keys (kid, pem, kept) VALUES (:kid, :pem, :kept)"
USE_TOKEN = (
    "UPDATE refresh_tokens SET used_at = :now WHERE digest = :digest AND used_at IS NULL AND family_id IN"
    " (SELECT id FROM families WHERE id = :family_id AND ended_at IS NULL)"
)
CHANGES = [
    "UPDATE users SET scope = 'items:read', disabled_at = NULL WHERE username = 'bob'",
    "UPDATE clients SET disabled_at = NULL WHERE name = 'a machine'",
    "UPDATE families SET ended_at = NULL WHERE user_agent = 'test'",
    "UPDATE private_keys SET kept = :kept WHERE kid = 'x'",
    "DELETE FROM private_keys WHERE kid = 'x'",
]
VERSION_AS_IT_WAS = [
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
    "INSERT INTO alembic_version SELECT version_num FROM issuer_schema_version",
    "DROP TABLE issuer_schema_version",
]
"""That release kept its revision under alembic's default name."""
READS = [
    "SELECT id, username, canonical_username, password_hash, scope, created_at, disabled_at FROM users",
    "SELECT id, name, auth_method, secret_digest, scope, audiences, created_at, disabled_at FROM clients",
    (
        "SELECT id, user_id, client_id, scope, audience, created_at, expires_at, ended_at, user_agent, address"
        " FROM families"
    ),
    "SELECT digest, family_id, expires_at, successor_seed, used_at FROM refresh_tokens",
    "SELECT version, document FROM key_ring",
    "SELECT kid, pem, kept FROM private_keys",
]


@dataclass
class FirstRelease:
    """A user, a client, a session and a key ring of the first release; `issuer` and `service` are the URLs."""

    issuer: str
    service: str
    now: datetime
    passphrase: str | None = None
    keys: list[PublicKey] = field(default_factory=list)
    refresh_token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    user_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    access_token: str = ""

    def make(self, url: str, directory: Path) -> None:
        """Make database and private keys where there are none."""
        database = Database(url)
        if database.file:
            database.file.touch(mode=0o600)
        with database.write() as connection:
            command.upgrade(config(connection), "0001")
            for statement in VERSION_AS_IT_WAS:
                connection.execute(text(statement))
        signer = PemSigner(PemDirectory(directory), lambda: self.passphrase)
        self.keys = [signer.generate("RS256") for _ in range(2)]
        for key in self.keys:
            signer.keep(key.kid)
        with database.write() as connection:
            self.write(connection)
            connection.execute(text(ADD_RING), {"version": 1, "document": self.document(1)})
        database.close()
        self.access_token = self._signed(signer)

    def write(self, connection: Connection, username: str = "bob") -> None:
        """Write what the first release writes for an account, a client and a log-in."""
        at, later = self._at(self.now), self._at(self.now + timedelta(days=30))
        account = {"id": self.user_id, "username": username, "canonical_username": username}
        account |= {"password_hash": PASSWORD_HASH, "scope": "items:read", "created_at": at}
        connection.execute(text(ADD_USER), account)
        digest = hashlib.sha256(self.client_secret.encode()).digest()
        client = {"id": self.client_id, "name": "a machine", "auth_method": "client_secret_basic"}
        client |= {"secret_digest": digest, "scope": "items:read", "audiences": "[]", "created_at": at}
        connection.execute(text(ADD_CLIENT), client)
        family = {"id": str(uuid.uuid4()), "user_id": self.user_id, "client_id": "first-party"}
        family |= {"audience": json.dumps([self.service, self.issuer]), "scope": "items:read"}
        connection.execute(text(ADD_FAMILY), family | {"created_at": at, "expires_at": later})
        token = {"digest": hashlib.sha256(self.refresh_token.encode()).digest(), "family_id": family["id"]}
        token |= {"expires_at": later, "successor_seed": secrets.token_bytes(32)}
        connection.execute(text(ADD_TOKEN), token)

    def document(self, version: int) -> str:
        """Return the key ring as the first release wrote it: two founders, the second in a month."""
        turns = (self.now, self.now + timedelta(days=30))
        keys = [
            {
                "kid": key.kid,
                "alg": key.alg,
                "jwk": dict(key.jwk),
                "published_at": self.now.isoformat().replace("+00:00", "Z"),
                "activates_at": turn.isoformat().replace("+00:00", "Z"),
                "token_lifetime": "PT10M",
                "margin": "PT1M",
                "lead": "PT0S",
                "revoked_at": None,
                "revoked_reason": None,
            }
            for key, turn in zip(self.keys, turns, strict=True)
        ]
        return json.dumps({"version": version, "keys": keys, "lead": "P1D"})

    def _signed(self, signer: PemSigner) -> str:
        key = self.keys[0]
        signer.load(key.kid, key.alg)
        issued_at = int(self.now.timestamp())
        claims: dict[str, Any] = {"iss": self.issuer, "sub": self.user_id, "aud": [self.service, self.issuer]}
        claims |= {"client_id": "first-party", "iat": issued_at, "exp": issued_at + 600, "username": "bob"}
        claims |= {"jti": secrets.token_urlsafe(16), "scope": "items:read"}
        header = {"alg": key.alg, "kid": key.kid, "typ": "at+jwt"}
        parts = [jwt.utils.base64url_encode(json.dumps(part).encode()) for part in (header, claims)]
        signature = signer.sign(key.kid, b".".join(parts))
        return b".".join([*parts, jwt.utils.base64url_encode(signature)]).decode()

    @staticmethod
    def _at(when: datetime) -> str:
        return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
