"""An issuer of JSON Web Tokens with asymmetric, rotating keys; each room below owns one word of the domain."""
