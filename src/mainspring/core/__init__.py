"""Floor 1: ids, types, events, errors, configuration and the clock; knows no other room."""
