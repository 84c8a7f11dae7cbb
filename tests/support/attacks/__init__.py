"""Tables of attacks on the verifier: tokens, key sets and responses, each with the expected result."""
