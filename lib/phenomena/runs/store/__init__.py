"""Chapters, keys, runs with their records, claims, git."""
