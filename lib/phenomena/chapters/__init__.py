"""What one chapter uses, a folder each: theory (formulas, closed forms) and study (experiments as functions)."""
