"""The key ring: pure rules of when each key is published, signs and retires; its tables, rotation and recovery.

`key` and `schedule` decide when a key may sign, `ring` and `view` which key signs. Generating, storing and using
private keys is left to `signing`.
"""
