"""What server and agent say to each other; imports nothing of ours."""
