"""Tables and figures from metrics and history files. No torch: rebuilding one trains nothing."""
