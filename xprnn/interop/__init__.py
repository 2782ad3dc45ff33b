"""Other formats and libraries."""
