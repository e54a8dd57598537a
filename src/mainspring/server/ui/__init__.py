"""The console: the platform's pages, rendered on the server."""
