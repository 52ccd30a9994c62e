"""Configuration: documents in, settings and mapping files out, each mistake with its place; compiled into a snapshot."""
