"""Floor 7: the one table of verbs, and the ways to call it."""
