"""Criticality: how signals survive depth."""
