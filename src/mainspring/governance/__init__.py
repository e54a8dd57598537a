"""Floor 5: audit and trace; reads the ledger and the stages' verbs, owns nothing."""
