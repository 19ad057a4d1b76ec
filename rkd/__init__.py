"""Reptile knowledge distillation: compress a fine-tuned language model with a teacher that learns to teach."""

__version__ = "0.1.0"
