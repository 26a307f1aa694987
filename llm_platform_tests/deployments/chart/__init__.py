"""The chart of deploy/helm, rendered by Helm's own library and read back as objects."""
