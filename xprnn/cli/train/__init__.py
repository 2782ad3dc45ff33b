"""The trainings of the command line, and what they share."""
