"""Pure functions on tensors and tidy frames that two or more chapters use."""
