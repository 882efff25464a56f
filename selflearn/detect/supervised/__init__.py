"""Models of pairs learnt from gold pairs or a labelled corpus."""

from selflearn.detect.supervised.corpus import SentencePairs, sentence_pairs
from selflearn.detect.supervised.fitting import fit_pair_model
from selflearn.detect.supervised.model import SupervisedModel

__all__ = ["SentencePairs", "SupervisedModel", "fit_pair_model", "sentence_pairs"]
