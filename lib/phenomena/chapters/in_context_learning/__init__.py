"""In context learning."""
