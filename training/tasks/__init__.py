"""What a model is fine-tuned for: of each task what it reads, how that becomes batches, what it answers, how good."""
