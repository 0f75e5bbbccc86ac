"""World 2: traits that pass from language model to language model through unrelated data."""
