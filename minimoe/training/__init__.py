"""Training: data, optimizers, schedule, balancing, the loop that joins them, and what lets it survive a kill."""

from minimoe.training.background import BackgroundRun
from minimoe.training.data import Batches, Corpus, load_corpus
from minimoe.training.history import History
from minimoe.training.loop import Trainer, evaluate, train
from minimoe.training.settings import Settings

__all__ = ["BackgroundRun", "Batches", "Corpus", "History", "Settings", "Trainer", "evaluate", "load_corpus", "train"]
