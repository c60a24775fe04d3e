"""What a training step is made of: recipe, augmentation, kept activations, and the time that parts take."""
