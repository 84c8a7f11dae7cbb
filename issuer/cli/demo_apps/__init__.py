"""Two applications of `issuer demo` that sign users in: a page in the browser only, and one with a server.

They know the issuer by its URL, as other applications do. Their processes are started by `cli.demo_servers`.
"""
