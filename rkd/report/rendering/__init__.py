"""Write a table in several formats."""
