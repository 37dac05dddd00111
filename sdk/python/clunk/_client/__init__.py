"""Speaks to a Clunk server: docs/api.md."""
