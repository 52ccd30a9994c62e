"""How control and workers talk: msgpack frames over a Unix socket, leases, snapshot and change delivery."""
