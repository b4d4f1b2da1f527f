"""Corpora of any source to documents, and documents to contexts of tokens."""
