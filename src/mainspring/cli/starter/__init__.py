"""The small project that `mainspring init` writes."""
