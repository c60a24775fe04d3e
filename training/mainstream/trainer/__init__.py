"""M-Trainer: the candidates of one application, from one base, and the package that they make."""
