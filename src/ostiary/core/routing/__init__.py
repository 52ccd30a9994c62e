"""Routing: canonical paths, expressions in linear time, and the table that a path is looked up in."""
