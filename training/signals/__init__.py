"""What a model says of each sample: scores, losses, gradients."""
