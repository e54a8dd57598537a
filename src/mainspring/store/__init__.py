"""Floor 2: database, ledger, blobs, Delta tables, leases; no word of the lifecycle."""
