"""Floor 4: the loop. `decide` names the next step, `act` does it, `run` says when to look."""
