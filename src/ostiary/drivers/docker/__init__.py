"""Droplets as containers of an engine that speaks Docker's API: Docker's own, or Podman's."""
