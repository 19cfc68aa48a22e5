"""Tempered overfitting (Kornowski, Yehudai and Shamir 2023)."""
