"""The layout of a table in a text."""
