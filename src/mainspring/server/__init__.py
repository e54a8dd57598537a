"""Floor 8: the control process: API, console and protocol faces over the table of verbs."""
