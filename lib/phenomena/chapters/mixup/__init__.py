"""Mixup and its dependence on the data (Chidambaram et al. 2022)."""
