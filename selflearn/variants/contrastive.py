"""Token vectors that put sentences near the goals they reached, and near what other people said for the same.

Three losses, each the cross-entropy of finding the right one among many. Two look among all of a batch (Henderson 2017,
van den Oord 2018): for the goal a sentence reached, and for what another person said for it, or what was said again. A
goal's vector is the sum of its intent's and slot names' and of its values' words, the latter from the table of tokens
itself: so a value that nobody has said yet means what its words mean. Sentences of one intent stand together in a
batch, and so changes of a value, the hardest to tell apart, are among what is to be told apart. The third loss, which
counts less, looks for the intent among all there are: what differs in a value alone stays nearer than what is wanted
for something else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from selflearn.encoding.vocabulary import silent_tokens, token_ids
from selflearn.ragged import Ints, places
from selflearn.variants.corpus import NO_GOAL, Frames, Positives

BATCH_SIZE = 512
PASSES = 10
LEAST_STEPS = 50
LEARNING_RATE = 0.01
TEMPERATURE = 0.15
DROPOUT = 0.1
"""Share of the tokens that a text is read without, other ones each time."""
INTENT_WEIGHT = 0.5
"""Of the loss by intent, beside that by goal."""
_RUN_LENGTH = 4
"""Sentences of one intent that stand together in a batch."""
_NEVER = -1e4


def fit_vectors(
    positives: Positives, frames: Frames, tokenizer: Tokenizer, seed: int, dimension: int
) -> tuple[npt.NDArray[np.float32], list[float]]:
    """Vectors of the tokens, shape (tokens, dimension), and the loss of each step."""
    rng = np.random.default_rng(seed)
    model = _Model(positives, frames, tokenizer, rng, dimension)
    n_steps = max(LEAST_STEPS, -(-PASSES * len(positives.text) // BATCH_SIZE))
    optimiser = torch.optim.Adam([model.tokens, model.names], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / n_steps)
    intents = np.where(positives.goal == NO_GOAL, NO_GOAL, np.append(frames.intents, NO_GOAL)[positives.goal])
    losses = []
    for _, (rows, mates) in zip(range(n_steps), _batches(positives, intents, rng), strict=False):
        optimiser.zero_grad()
        loss = model.loss(rows, mates)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return model.tokens.detach().numpy(), losses


def _batches(positives: Positives, intents: Ints, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """Rows and their mates without end, each row once in a pass; runs of one intent in random order."""
    n = len(positives.text)
    while True:
        mates = positives.draw_mates(rng)
        order = np.lexsort((rng.random(n), intents))
        runs = rng.permutation(-(-n // _RUN_LENGTH))
        order = order[np.argsort(runs[np.arange(n) // _RUN_LENGTH], kind="stable")]
        for start in range(0, n, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            yield rows, mates[rows]


class _Model:
    """Vectors of tokens, and of names (intents and slot names).

    They start at random, so that texts are near which share words: what training says nothing of stays so.
    """

    def __init__(
        self, positives: Positives, frames: Frames, tokenizer: Tokenizer, rng: np.random.Generator, dimension: int
    ) -> None:
        self._positives, self._frames, self._rng = positives, frames, rng
        # The values of goal k are the text behind all others, at `_first_value + k`.
        self._first_value = len(positives.texts)
        self._ids, self._offsets = token_ids(tokenizer, [*positives.texts, *frames.values])
        n_tokens = tokenizer.get_vocab_size()
        start = rng.normal(scale=dimension**-0.5, size=(n_tokens + frames.n_names, dimension)).astype(np.float32)
        is_heard = np.ones((n_tokens, 1), dtype=np.float32)
        is_heard[silent_tokens(tokenizer)] = 0
        self.tokens = torch.nn.Parameter(torch.from_numpy(start[:n_tokens] * is_heard))
        self.names = torch.nn.Parameter(torch.from_numpy(start[n_tokens:]))
        # What starts at zero and never moves stays there.
        self.tokens.register_hook(lambda gradient: gradient * torch.from_numpy(is_heard))  # type: ignore[no-untyped-call]

    def loss(self, rows: Ints, mates: Ints) -> torch.Tensor:
        """Of one batch; a row without a goal, or whose mate is itself, takes part in the other loss alone."""
        text, goal = self._positives.text[rows], self._positives.goal[rows]
        goals, place = np.unique(goal[goal != NO_GOAL], return_inverse=True)
        sums = self._sums(np.concatenate([text, mates, self._first_value + goals]))
        left, right, values = torch.split(sums, [len(rows), len(rows), len(goals)])
        left, right = functional.normalize(left), functional.normalize(right)
        total = torch.zeros(())
        if len(goals):
            reached = functional.normalize(values + self._name_sums(goals))
            spoken = left[torch.from_numpy(goal != NO_GOAL)]
            scores = spoken @ reached.T / TEMPERATURE
            total = total + functional.cross_entropy(scores, torch.from_numpy(place), reduction="sum")
            scores = spoken @ functional.normalize(self.names[: self._frames.n_intents]).T / TEMPERATURE
            intent = torch.from_numpy(self._frames.intents[goals[place]])
            total = total + INTENT_WEIGHT * functional.cross_entropy(scores, intent, reduction="sum")
        same = (goal[:, None] == goal) & (goal != NO_GOAL) | (text[:, None] == text) | (mates[:, None] == mates)
        np.fill_diagonal(same, False)
        scores = (left @ right.T / TEMPERATURE).masked_fill(torch.from_numpy(same), _NEVER)
        has_mate = torch.from_numpy(mates != text)
        right_one = torch.arange(len(rows))
        total = total + functional.cross_entropy(scores[has_mate], right_one[has_mate], reduction="sum")
        return total / len(rows)

    def _sums(self, texts: Ints) -> torch.Tensor:
        """Sum of the texts' token vectors, of which some are left out."""
        taken, offsets = places(self._offsets, texts)
        kept = (self._rng.random(len(taken)) >= DROPOUT).astype(np.float32)
        return _bags(self._ids[taken], offsets, self.tokens, kept)

    def _name_sums(self, goals: Ints) -> torch.Tensor:
        taken, offsets = places(self._frames.offsets, goals)
        names = self._frames.names[taken]
        return _bags(names, offsets, self.names, np.ones(len(taken), dtype=np.float32))


def _bags(
    ids: npt.NDArray[np.int32], offsets: Ints, table: torch.Tensor, weights: npt.NDArray[np.float32]
) -> torch.Tensor:
    return functional.embedding_bag(
        torch.from_numpy(ids.astype(np.int64)),
        table,
        torch.from_numpy(offsets[:-1]),
        mode="sum",
        per_sample_weights=torch.from_numpy(weights),
    )
