"""Benign memorization (Anagnostidis et al. 2023)."""
