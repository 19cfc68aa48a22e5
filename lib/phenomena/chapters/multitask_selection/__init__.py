"""Joint feature selection for mixed tasks (Cao and Schwarz 2024)."""
