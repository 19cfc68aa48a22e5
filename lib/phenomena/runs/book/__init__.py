"""The book: build, pages, quotations, images, downloads, PDF, theme."""
