"""The Python half of the command line."""
