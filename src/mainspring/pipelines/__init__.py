"""Floor 3: steps, their graph and identity, runs with lease and token, environment capture."""
