"""Grad-Match: samples and weights whose gradients add up to the gradient of all."""
