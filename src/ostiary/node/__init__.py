"""The composition roots: what a control process and a worker process are made of. Only here the environment is read."""
