"""Floor 8: the MLflow face: that protocol's requests as verbs of the rooms below."""
