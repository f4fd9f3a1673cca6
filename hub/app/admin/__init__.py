"""The operators' port: publishing, health, metrics, and what there is to see of the node."""
