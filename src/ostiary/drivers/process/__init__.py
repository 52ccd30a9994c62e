"""Droplets as local processes. A keeper, one small process a node, runs them and outlives control; a driver asks it."""
