"""Real labelled data out of the ordinary package registries, for fine-tuning: one small module per source."""
