"""Training: data, optimizers, schedule, balancing and the loop that joins them."""

from minimoe.training.data import Corpus, load_corpus
from minimoe.training.loop import History, Settings, evaluate, train

__all__ = ["Corpus", "History", "Settings", "evaluate", "load_corpus", "train"]
