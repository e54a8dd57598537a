"""What this server sends by itself: one door to the outside, webhooks, and the outbox they use."""
