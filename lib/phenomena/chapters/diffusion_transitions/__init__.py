"""Phase transitions in diffusion models: when a sample decides what it will be."""
