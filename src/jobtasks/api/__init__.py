"""The HTTP edge: parses requests, calls the service, renders answers; and the server process."""
