"""Floor 3: starts the platform's processes, keeps them running, ends them; no database, no HTTP."""
