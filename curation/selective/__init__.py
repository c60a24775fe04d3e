"""The Selective-Backprop family: which samples of a batch, or of an epoch, are trained on, by their losses."""
