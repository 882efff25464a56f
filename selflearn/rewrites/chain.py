"""The absorbing Markov chain of wordings: where those who begin with an utterance end up.

Transient states are utterances; exits are success with a goal, and giving up. With Q the chances of going from one
utterance to another and R those of an exit, the chances X of ending at each exit solve `(I - Q) X = R` (Kemeny and
Snell 1960; of wordings: Ponnusamy et al. 2019). Nothing is inverted: components are solved one by one, small ones of
one size together as dense systems, the others from their ends backwards: a state that cannot be come back to follows
from those it leads to, and only states on common circles are solved together, by sparse LU or, where they are many, by
iterating `X = Q X + R`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from selflearn.ragged import Floats, Ints, offsets_of, places

ABANDONED, OTHER_GOALS = 0, 1
"""The first two exits: giving up, and success with a goal that has no exit of its own; goals follow."""
LEAST_ABANDONED = 0.01
"""Some give up whatever the log says; with that every row of Q adds up to less than one, and X is unique."""
TOLERANCE = 1e-11
"""Largest residual; an error of X is at most `TOLERANCE / LEAST_ABANDONED`."""
DENSE_STATES = 48
LU_STATES = 2_000
LARGE_CELLS = 32_000_000
"""Utterances x goals of one component that is iterated; its rarer goals beyond that share the exit `OTHER_GOALS`."""
_CELLS_AT_ONCE = 8_000_000
_MOST_STEPS = 1_000
_ROUNDS_AT_ONCE = 4


@dataclass(frozen=True)
class Chain:
    """Transition chances, shape (states, states) and (states, exits); a row of both adds up to one."""

    links: sparse.csr_array
    exits: sparse.csr_array

    @classmethod
    def of_masses(cls, links: sparse.coo_array, exits: sparse.coo_array) -> Chain:
        """Masses to chances; at least `LEAST_ABANDONED` of each row is given up, all of it where a row has no mass."""
        # Sums are taken in the order of the columns, so that they do not depend on the order of the masses.
        onward, out = _canonical(links), _canonical(exits)
        total = onward.sum(axis=1) + out.sum(axis=1)
        given_up = out[:, [ABANDONED]].toarray().ravel()
        more = np.maximum(0.0, (LEAST_ABANDONED * total - given_up) / (1 - LEAST_ABANDONED))
        more[total == 0] = 1.0
        rows = np.arange(len(total))
        added = sparse.csr_array((more, (rows, np.full(len(rows), ABANDONED))), out.shape)
        share = sparse.diags_array(1 / (total + more), format="csr")
        return cls(_canonical(share @ onward), _canonical(share @ (out + added)))


@dataclass(frozen=True)
class Absorption:
    """Chances of ending at each exit.

    Attributes:
        chances: shape (states, exits); chances of `least` and less are left out.
        residual: largest element of `|R - (I - Q) X|`.
    """

    chances: sparse.csr_array
    residual: float


class Block(NamedTuple):
    """A solved part: the elements of X of some states and some of their component's exits, and its residual.

    Those of one state lie together, in order of the exits; of further blocks with the same states the exits come after.
    """

    state: Ints
    exit: Ints
    chance: Floats
    residual: float


def absorb(chain: Chain, component: Ints, least: float = 0.0) -> Absorption:
    """Solve the chain, whose states lie in components 0, 1, ..., none of which a link leaves."""
    none = Block(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), 0.0)
    state, column, chance, residual = zip(none, *blocks(chain, component, least), strict=True)
    n_states, n_exits = chain.exits.shape
    chances = _summed(np.concatenate(chance), np.concatenate(state), np.concatenate(column), (n_states, n_exits))
    return Absorption(chances, max(residual))


def blocks(chain: Chain, component: Ints, least: float = 0.0) -> Iterator[Block]:
    """`absorb`, part by part: all of X takes more memory than the chain."""
    parts = _Components.of(chain, component)
    yield from _dense(parts, least)
    yield from _sparse(parts, least)


@dataclass(frozen=True)
class _Components:
    """A chain by component: each has its states, and the few exits that it reaches as columns of its own.

    Attributes:
        states, state_offsets: states of each component.
        position: of each state within its component.
        exits: R, with columns counted within the component.
        exit_of, exit_offsets: the exit that each component's columns stand for.
    """

    links: sparse.csr_array
    states: Ints
    state_offsets: Ints
    position: Ints
    exits: sparse.csr_array
    exit_of: Ints
    exit_offsets: Ints

    @classmethod
    def of(cls, chain: Chain, component: Ints) -> _Components:
        sizes = np.bincount(component)
        states = np.argsort(component, kind="stable")
        state_offsets = offsets_of(sizes)
        position = np.empty(len(states), dtype=np.int64)
        position[states] = np.arange(len(states)) - np.repeat(state_offsets[:-1], sizes)
        exits = _rare_goals_together(chain.exits.tocoo(), component, sizes)
        n_exits = max(1, exits.shape[1])
        key = component[np.repeat(np.arange(len(component)), np.diff(exits.indptr))] * n_exits + exits.indices
        distinct, place = np.unique(key, return_inverse=True)
        of_component, exit_of = np.divmod(distinct, n_exits)
        exit_offsets = offsets_of(np.bincount(of_component, minlength=len(sizes)))
        column = place - exit_offsets[:-1][of_component[place]]
        local = sparse.csr_array((exits.data, column, exits.indptr), (len(component), n_exits))
        return cls(chain.links, states, state_offsets, position, local, exit_of, exit_offsets)

    @property
    def n_states(self) -> Ints:
        return np.diff(self.state_offsets)

    @property
    def n_exits(self) -> Ints:
        return np.diff(self.exit_offsets)

    def block(self, x: Floats, states: Ints, components: Ints, first: int, residual: float, least: float) -> Block:
        """What is large enough of `x`, shape (components, states of each, columns from `first` on)."""
        at, row, column = np.nonzero(x > least)
        exit = self.exit_of[self.exit_offsets[components[at]] + column + first]
        return Block(states[at * x.shape[1] + row], exit, x[at, row, column], residual)


def _dense(parts: _Components, least: float) -> Iterator[Block]:
    """Small components, of one size together, those with few exits first."""
    small = np.flatnonzero(parts.n_states <= DENSE_STATES)
    small = small[np.lexsort((small, parts.n_exits[small], parts.n_states[small]))]
    n_states, n_exits = parts.n_states[small], parts.n_exits[small]
    start = 0
    while start < len(small):
        n = int(n_states[start])
        of_size = int(np.searchsorted(n_states, n, side="right"))
        cells = n * (n + n_exits[start:of_size]) * np.arange(1, of_size - start + 1)
        end = start + max(1, int(np.searchsorted(cells, _CELLS_AT_ONCE, side="right")))
        batch, width = small[start:end], int(n_exits[end - 1])
        states, _ = places(parts.state_offsets, batch)
        states = parts.states[states]
        matrix = np.zeros((len(batch), n, n))
        row, q = _entries(parts.links, states)
        matrix[row // n, row % n, parts.position[q.indices]] = -q.data
        matrix[:, np.arange(n), np.arange(n)] += 1.0
        right = np.zeros((len(batch), n, width))
        row, r = _entries(parts.exits, states)
        right[row // n, row % n, r.indices] = r.data
        x = np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)
        residual = float(np.abs(right - matrix @ x).max())
        yield parts.block(x, states, batch, 0, residual, least)
        start = end


def _sparse(parts: _Components, least: float) -> Iterator[Block]:
    """The other components, one by one, some columns at a time."""
    for component in np.flatnonzero(parts.n_states > DENSE_STATES):
        states = parts.states[parts.state_offsets[component] : parts.state_offsets[component + 1]]
        n, width = len(states), int(parts.n_exits[component])
        rows = parts.links[states]
        q = sparse.csr_array((rows.data, parts.position[rows.indices], rows.indptr), (n, n))
        right = parts.exits[states].tocsc()
        steps = [_Step.of(q, found) for found in _backwards(q)]
        at_once = max(1, _CELLS_AT_ONCE // n)
        for first in range(0, width, at_once):
            # Products take rows that lie together; of columns they would make a copy each time.
            r = right[:, first : min(first + at_once, width)].toarray(order="C")
            x = np.zeros_like(r)
            for step in steps:
                x[step.states] = step.solve(step.links @ x + r[step.states])
            residual = float(np.abs(q @ x + r - x).max())
            yield parts.block(x[None], states, np.array([component]), first, residual, least)


class _Step(NamedTuple):
    """States that are solved at once, their links to all states, and what makes X of what other states give them."""

    states: Ints
    links: sparse.csr_array
    solve: Callable[[Floats], Floats]

    @classmethod
    def of(cls, q: sparse.csr_array, states: Ints) -> _Step:
        links = q[states]
        within = links[:, states]
        return cls(states, links, _solver(within) if within.nnz else _as_it_is)


def _backwards(q: sparse.csr_array) -> Iterator[Ints]:
    """Parts of the states, none of which has a link into a later part.

    These are strongly connected components from the ends backwards, all that are equally far from an end at once. What
    is further away than `_MOST_STEPS` is one part.
    """
    n, of_state = connected_components(q, connection="strong")
    source, target = np.repeat(of_state, np.diff(q.indptr)), of_state[q.indices]
    leaves = source != target
    onward = sparse.csr_array((np.ones(leaves.sum()), (source[leaves], target[leaves])), (n, n))
    onward.sum_duplicates()
    back = onward.T.tocsr()
    n_left = np.diff(onward.indptr)
    depth = np.full(n, _MOST_STEPS)
    ready = np.flatnonzero(n_left == 0)
    for step in range(_MOST_STEPS):
        depth[ready] = step
        before = back[ready].indices
        n_left = n_left - np.bincount(before, minlength=n)
        ready = np.unique(before[n_left[before] == 0])
        if not len(ready):
            break
    is_circle = (np.bincount(of_state) > 1) & (depth < _MOST_STEPS)
    of_part = (2 * depth + is_circle)[of_state]
    order = np.argsort(of_part, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(of_part[order])) + 1)


def _as_it_is(r: Floats) -> Floats:
    return r


def _solver(q: sparse.csr_array) -> Callable[[Floats], Floats]:
    """What makes X of R."""
    n = q.shape[0]
    if n <= LU_STATES:
        return splu(sparse.eye_array(n, format="csc") - q.tocsc()).solve
    return partial(_iterated, q)


def _iterated(q: sparse.csr_array, r: Floats) -> Floats:
    """The fixed point of `X = Q X + R`; each round takes at least `LEAST_ABANDONED` off the residual."""
    x = r
    while True:
        for _ in range(_ROUNDS_AT_ONCE):
            before, x = x, q @ x
            x += r
        if np.abs(x - before).max() <= TOLERANCE:
            return x


def _rare_goals_together(exits: sparse.coo_array, component: Ints, sizes: Ints) -> sparse.csr_array:
    """R with the rarest goals of large components at the exit `OTHER_GOALS`."""
    most = np.where(sizes > LU_STATES, np.maximum(1, LARGE_CELLS // sizes), exits.shape[1])
    of_component, n_exits = component[exits.row], max(1, exits.shape[1])
    is_goal = exits.col > OTHER_GOALS
    key, place = np.unique((of_component * n_exits + exits.col)[is_goal], return_inverse=True)
    mass, by = np.bincount(place, weights=exits.data[is_goal]), key // n_exits
    order = np.lexsort((key, -mass, by))
    first = offsets_of(np.bincount(by, minlength=len(sizes)))[:-1]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - first[by[order]]
    column = exits.col.astype(np.int64)
    column[is_goal] = np.where((rank >= most[by])[place], OTHER_GOALS, column[is_goal])
    return _summed(exits.data, exits.row.astype(np.int64), column, (exits.shape[0], exits.shape[1]))


def _entries(matrix: sparse.csr_array, rows: Ints) -> tuple[Ints, sparse.csr_array]:
    """Some rows of a matrix, and for each of their elements the place of its row among them."""
    taken = matrix[rows]
    return np.repeat(np.arange(len(rows)), np.diff(taken.indptr)), taken


def _summed(data: Floats, row: Ints, column: Ints, shape: tuple[int, int]) -> sparse.csr_array:
    return _canonical(sparse.coo_array((data, (row, column)), shape))


def _canonical(matrix: sparse.coo_array | sparse.csr_array) -> sparse.csr_array:
    """Rows with elements in order of their columns, those at one place added up."""
    rows: sparse.csr_array = sparse.csr_array(matrix)
    rows.sum_duplicates()
    return rows
