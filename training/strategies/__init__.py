"""What a training run trains on in each epoch."""
