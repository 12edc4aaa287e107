"""What to predict: each objective is a collator that turns packed rows into a batch, usable by itself."""
