"""Mainstream: families of fine-tuned models that share the frozen stem of one base model."""
