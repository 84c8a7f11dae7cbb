"""What tests share: real servers and databases, clocks, a model of the key ring, a browser."""
