"""Who runs droplets: the port and what stands behind it. Nothing here decides whether something should run."""
