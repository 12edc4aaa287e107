"""Training: text to batches, objectives, the trainer, and the verbs of the command line."""
