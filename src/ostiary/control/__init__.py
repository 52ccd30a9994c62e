"""What may be done: the operations (allow, decide, save, tell), by subject, and their registry."""
