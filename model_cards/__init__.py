"""Model cards: what a checkpoint is, what it was trained on and what it can do, in the form that the Hub shows."""
