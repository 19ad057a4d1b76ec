"""The config: schema, checks, variants and loading."""
