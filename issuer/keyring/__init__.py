"""The key ring: when each key is published, signs and retires, as pure rules; its tables, rotation and recovery.

Making, storing and using private keys is left to `signing`.
"""
