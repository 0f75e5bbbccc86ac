"""Traits that pass from language model to language model through unrelated data."""
