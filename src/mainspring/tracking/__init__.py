"""Floor 3: tracked runs with their parameters, metrics, tags and artifacts, all records."""
