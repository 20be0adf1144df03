"""What happens: one method per event, each in one savepoint of one transaction."""
