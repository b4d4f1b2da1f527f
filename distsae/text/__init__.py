"""Text for a language model: the documents of a corpus, from any source, and contexts of tokens made of them."""

from __future__ import annotations

from distsae.text.contexts import Contexts, cut_contexts, pack
from distsae.text.corpus import Corpus, corpus_files, documents, open_corpus

__all__ = ["Contexts", "Corpus", "corpus_files", "cut_contexts", "documents", "open_corpus", "pack"]
