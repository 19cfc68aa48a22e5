"""Feature learning."""
