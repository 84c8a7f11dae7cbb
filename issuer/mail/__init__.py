"""Mail to users: which messages are due (`outbox`), their texts (`messages`), and how they are sent (`smtp`).

Who is sent what is decided in `administration`.
"""
