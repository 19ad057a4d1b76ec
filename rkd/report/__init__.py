"""Tables and figures from metrics and history files. Nothing here imports torch or trains a model."""
