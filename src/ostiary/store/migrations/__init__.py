"""The schema, as a chain of migrations. A new one is a new file, and HEAD names the last."""

HEAD = "0008"
