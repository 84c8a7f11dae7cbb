"""The key ring: pure rules of when each key is published, signs and retires; its tables, rotation and recovery.

Generating, storing and using private keys is left to `signing`.
"""
