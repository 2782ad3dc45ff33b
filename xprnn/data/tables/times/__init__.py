"""Times: dates in their formats, the column that holds them, their order and their steps."""
