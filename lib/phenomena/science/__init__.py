"""Pure functions on tensors: data, augmentation, networks, training, probes, plots, one module a chapter."""
