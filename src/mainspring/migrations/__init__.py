"""Migrations of the record tables, run by `store` when a home is opened."""
