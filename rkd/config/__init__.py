"""What a user may say: schema, checks, variants and loading."""
