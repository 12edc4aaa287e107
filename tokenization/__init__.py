"""Tokenizers for the three families: trained here, saved as stock tokenizers that need nothing of ours to load."""

from .families import special_token_ids
from .measures import normalized_text, token_byte_lengths
from .train import save_tokenizer, train_tokenizer

__all__ = ["normalized_text", "save_tokenizer", "special_token_ids", "token_byte_lengths", "train_tokenizer"]
