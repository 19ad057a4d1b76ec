"""Tables in several formats."""
