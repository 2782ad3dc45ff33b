"""One file per array library, and one for any namespace of the user's own."""
