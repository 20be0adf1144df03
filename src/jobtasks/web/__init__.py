"""The pages: rendered by the server, read through the same service methods as the API."""
