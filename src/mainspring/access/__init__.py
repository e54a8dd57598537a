"""Floor 3: who may do what in a project: roles, permissions, tokens."""
