"""Encoding: texts to vectors, for whatever stage compares what texts mean."""

from selflearn.encoding.encoder import INSTALL_EXTRA, Encoder, LexicalEncoder, Vectors, check_dimensions, load_encoder
from selflearn.encoding.static_encoder import StaticEncoder
from selflearn.encoding.worker import load_on_worker

__all__ = [
    "INSTALL_EXTRA",
    "Encoder",
    "LexicalEncoder",
    "StaticEncoder",
    "Vectors",
    "check_dimensions",
    "load_encoder",
    "load_on_worker",
]
