"""What tests share: real servers and databases, clocks, worlds of keys, a browser; the tests themselves are beside it."""
