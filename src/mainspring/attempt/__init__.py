"""The process of one attempt at a run, in the project's own interpreter."""
