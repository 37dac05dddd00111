"""Cog projects read without running them: predictors become OpenAPI documents."""

# The Cog release whose package format and schema this package writes.
COG_VERSION = "0.23.1"
