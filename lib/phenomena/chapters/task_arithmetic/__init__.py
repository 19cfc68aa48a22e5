"""Task arithmetic (Ilharco et al. 2023)."""
