"""The user's files on their way to a container."""
