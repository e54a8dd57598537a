"""Floor 3: predictions, labels and outcomes; from them readings, guards and alarms."""
