"""Estimators against other code, brute force and closed forms; what is refused."""
