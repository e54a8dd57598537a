"""Floor 3: versions of datasets, quality checks and the quarantine."""
