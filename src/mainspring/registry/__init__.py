"""Floor 3: model versions, numbered without gaps or races, and their aliases."""
