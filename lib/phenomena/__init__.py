"""Helper library of a book of reproducible notebooks: the science wing, the runs wing, and nothing between them."""

__version__ = "0.1.0"
