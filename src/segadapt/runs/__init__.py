"""A run: configuration, stages in order, fingerprints, plan."""
