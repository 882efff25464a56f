"""Words in a context back off to the same words in all other contexts, and these to the locale.

What some words mean in one context has a Dirichlet prior: a number of turns, read as the words are read elsewhere. That
number is fitted to each locale's log by marginal likelihood (the Dirichlet-multinomial; Minka 2000): it is small where
the context decides what words mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from selflearn.graph.candidates import LEAST, Lent, Prior, Readings, log_prior, offsets_in, place_in, rank_of
from selflearn.graph.columns import fields, numbers, offsets, rows
from selflearn.graph.window import goal_id
from selflearn.ragged import Floats, Ints, places, sum_of

Strengths = Mapping[str, float]
"""Turns that all other contexts of some words count as, by locale; `DEFAULT_STRENGTH` where it is missing."""
DEFAULT_STRENGTH = 1.0
MAX_WORDS = 20_000
_LEAST_TURNS, _MOST_TURNS = 0.01, 100.0
_LOCALE_COUNTS_AS = 1.0
"""Turns that the locale's readings count as beside those of the words elsewhere."""
_SAID = ("utterance_id", "context", "n", "friction", "users", "said_on")


def by_words(utterances: DataFrame) -> DataFrame:
    """Utterances of a `Window` in lists by their words: `locale, text, said`; goals go by their ids."""

    def by_id(reading: Column) -> Column:
        return reading.withField("goal", goal_id(reading["goal"]))

    said = F.struct(*_SAID, F.transform("readings", by_id).alias("readings"))
    return utterances.groupBy("locale", "text").agg(F.sort_array(F.collect_list(said)).alias("said"))


def read_readings(lists: pa.ListArray) -> Readings:
    """The readings of the struct field `readings`."""
    goal, *sums = fields(lists, "goal", "p_sum", "n_outcomes", "outcome_sum")
    return Readings(offsets(lists), goal.to_numpy(), *map(numbers, sums))


def once_each(readings: Readings, day: Ints, said_on: pa.ListArray) -> Readings:
    """Outcomes in which a person counts once for an utterance, as of the last day they said it.

    Args:
        readings: of utterances.
        day: of each reading.
        said_on: `turn_date, weight, users` of each day that an utterance was said on; readings have that weight.
    """
    days = said_on.flatten()
    of_utterance, date, weight = rows(said_on), day_numbers(days.field("turn_date")), numbers(days.field("weight"))
    of_day, person = rows(days.field("users")), days.field("users").flatten().to_numpy()
    order = np.lexsort((-weight[of_day], person, of_utterance[of_day]))
    of_day, person = of_day[order], person[order]
    is_new = np.ones(len(person), dtype=bool)
    is_new[1:] = (person[1:] != person[:-1]) | (of_utterance[of_day][1:] != of_utterance[of_day][:-1])
    start, who = np.flatnonzero(is_new), np.cumsum(is_new) - 1
    share = weight[of_day[start]] / sum_of(weight[of_day], np.append(start, len(person)))
    n_people = np.maximum(np.bincount(of_day, minlength=len(days)), 1)
    share = np.bincount(of_day, weights=share[who], minlength=len(days)) / n_people
    order = np.lexsort((date, of_utterance))
    reader = np.repeat(np.arange(len(said_on)), np.diff(readings.offsets))
    at, _ = place_in((of_utterance[order], date[order]), (reader, day))
    once = share[order][at]
    return replace(readings, n_outcomes=readings.n_outcomes * once, outcome_sum=readings.outcome_sum * once)


def day_numbers(dates: pa.Array) -> Ints:
    """Days since 1970."""
    return np.asarray(dates.cast(pa.int32()).to_numpy(), dtype=np.int64)


def back_off(
    readings: Readings,
    words: Ints,
    n_turns: Floats,
    locale: Sequence[str],
    prior: Prior,
    strengths: Strengths,
    most: int,
) -> Lent:
    """What utterances are lent by the other contexts of their words: of the `most` goals that the words mean most.

    Args:
        readings: of utterances; those of the same words stand together.
        words: number of the words of each utterance, sorted.
        n_turns, locale: of each utterance.
    """
    n_elsewhere = _elsewhere(words, n_turns)
    counts_as = np.where(n_elsewhere > 0, [strengths.get(of, DEFAULT_STRENGTH) for of in locale], 0.0)
    reader = np.repeat(np.arange(len(words)), np.diff(readings.offsets))
    own_utterance, own_goal, own = _totals(reader, readings.goal, readings.p_sum)
    of_words, goal, total = _totals(words[reader], readings.goal, readings.p_sum)
    n_words = int(words[-1]) + 1 if len(words) else 0
    kept = rank_of(of_words, -total, goal, offsets_in(of_words, n_words)) < most
    of_words, goal, total = of_words[kept], goal[kept], total[kept]

    at, ends = places(offsets_in(of_words, n_words), words)
    utterance, goal = np.repeat(np.arange(len(words)), np.diff(ends)), goal[at]
    place, is_own = place_in((own_utterance, own_goal), (utterance, goal))
    here = np.zeros(len(goal))
    here[is_own] = own[place[is_own]]
    share = _share(total[at] - here, n_elsewhere[utterance], log_prior(prior, locale, utterance, goal))
    turns = share * counts_as[utterance]
    is_lent = turns > LEAST * (n_turns + counts_as)[utterance]
    return Lent(utterance[is_lent], goal[is_lent], turns[is_lent], counts_as)


def fit_strengths(words: DataFrame, prior: Prior) -> dict[str, float]:
    """`Strengths` of each locale whose words are said in several contexts.

    `words` are those of `by_words`; at most `MAX_WORDS` of them are looked at, by their hash.
    """
    several = words.where(F.size("said") > 1).orderBy(F.xxhash64("locale", "text"), "locale", "text").limit(MAX_WORDS)
    found = several.select("locale", "said.readings").toArrow().combine_chunks()
    strengths = {}
    for locale in sorted(found["locale"].unique().to_pylist()):
        lists = found.filter(pc.equal(found["locale"], locale))["readings"].combine_chunks()
        strengths[locale] = fit_strength(read_readings(lists.flatten()), rows(lists), locale, prior)
    return strengths


def fit_strength(readings: Readings, words: Ints, locale: str, prior: Prior) -> float:
    """The strength under which the goals that were acted on in each context are likeliest, given the other contexts.

    Turns are counted, not probabilities: these vary less than turns do, so that all contexts would look alike.
    A log-normal prior, worth one utterance, keeps it near `DEFAULT_STRENGTH` where little is known. Arguments as in
    `back_off`, of one locale.
    """
    reader = np.repeat(np.arange(len(words)), np.diff(readings.offsets))
    utterance, goal, own = _totals(reader, readings.goal, readings.n_outcomes)
    of_words, of_goal, total = _totals(words[reader], readings.goal, readings.n_outcomes)
    n_own = sum_of(own, offsets_in(utterance, len(words)))
    n_elsewhere = _elsewhere(words, n_own)
    everywhere = total[place_in((of_words, of_goal), (words[utterance], goal))[0]]
    chance = log_prior(prior, [locale] * len(words), utterance, goal)
    share = _share(everywhere - own, n_elsewhere[utterance], chance)
    told = (n_own > 0) & (n_elsewhere > 0)
    seen = told[utterance] & (own > 0)
    own, share, n_own = own[seen], share[seen], n_own[told]

    def loss(log_strength: float) -> float:
        k = np.exp(log_strength)
        likelihood = (gammaln(k) - gammaln(k + n_own)).sum() + (gammaln(k * share + own) - gammaln(k * share)).sum()
        return float((log_strength - np.log(DEFAULT_STRENGTH)) ** 2 / 2 - likelihood)

    best = minimize_scalar(loss, bounds=(np.log(_LEAST_TURNS), np.log(_MOST_TURNS)), method="bounded")
    # Sums differ in their last digits with the order of rows, and the minimum with them: neither may reach the tables.
    return round(float(np.exp(best.x)), 3)


def _elsewhere(words: Ints, n: Floats) -> Floats:
    """Sum of `n` over the other utterances of the same words; 0 where there are none."""
    together = np.bincount(words, weights=n)[words] if len(words) else n
    return np.where(np.bincount(words)[words] > 1, np.maximum(together - n, 0.0), 0.0) if len(words) else n


def _share(elsewhere: Floats, n_elsewhere: Floats, log_chance: Floats) -> Floats:
    """Share of a goal in other contexts, which back off to the locale."""
    return (np.maximum(elsewhere, 0.0) + _LOCALE_COUNTS_AS * np.exp(log_chance)) / (n_elsewhere + _LOCALE_COUNTS_AS)


def _totals(row: Ints, goal: Ints, measure: Floats) -> tuple[Ints, Ints, Floats]:
    """Sums by row and goal, sorted by both."""
    # Equal ones in an order of their own, so that sums do not depend on the order in which days are read.
    order = np.lexsort((measure, goal, row))
    row, goal = row[order], goal[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (row[1:] != row[:-1]) | (goal[1:] != goal[:-1])
    start = np.flatnonzero(is_first)
    return row[start], goal[start], sum_of(measure[order], np.append(start, len(order)))
