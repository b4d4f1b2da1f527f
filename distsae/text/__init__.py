"""Text for a language model: the documents of a corpus, from any source, and contexts of tokens made of them."""

from __future__ import annotations

from distsae.text.contexts import Contexts, ContextShape, cut, cut_contexts, pack
from distsae.text.corpus import Corpus, corpus_files, documents, open_corpus
from distsae.text.heldout_documents import Repeats, choose_heldout, repeats
from distsae.text.token_text import TokenText
from distsae.text.tokens import TokenisedDocuments, tokenised_documents

__all__ = [
    "ContextShape",
    "Contexts",
    "Corpus",
    "Repeats",
    "TokenText",
    "TokenisedDocuments",
    "choose_heldout",
    "corpus_files",
    "cut",
    "cut_contexts",
    "documents",
    "open_corpus",
    "pack",
    "repeats",
    "tokenised_documents",
]
