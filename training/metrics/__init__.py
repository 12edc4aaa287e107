"""Metrics of fine-tuned models, as metrics of evaluate that come with the package instead of from the Hub."""

from .choice import METRICS, load

__all__ = ["METRICS", "load"]
