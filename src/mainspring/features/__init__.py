"""Floor 3: one definition of a feature; as-of join for history, online table for now."""
