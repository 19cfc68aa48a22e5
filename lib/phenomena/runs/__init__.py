"""Parameters, runs, records, claims, the book: everything that knows nothing of any chapter's science."""
