"""Coming from the Go hub: what of its configuration counts here, and its history.

In: a Compose file, an ``.env``, a Caddyfile; a Bolt file. Out: what is taken and what differs, line by line; updates.
Start with `check` for the first, and `history` for the second; `bolt` reads the file's pages.
"""
