"""An issuer of JSON Web Tokens with asymmetric, rotating keys; each package below owns one part of the domain."""
