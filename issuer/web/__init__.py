"""The issuer over HTTP: one file an endpoint, each parses, calls one function below, and renders."""
