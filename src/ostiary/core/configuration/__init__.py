"""Configuration: documents in, settings and mapping files out, each mistake with its place; compiled to a snapshot."""
