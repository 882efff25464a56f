"""Weak labels: which goals are emitted, with their support and the reason for each."""

from __future__ import annotations

from itertools import chain

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from selflearn.labels.calibration import Calibration
from selflearn.labels.tagged import LoadEncoder, with_tags, without_contradicted
from selflearn.labels.tagging import TagModel
from selflearn.lakehouse import tables
from selflearn.settings import Labels

VOTERS = ("nlu", "outcome", "pair", "variant", "refit")
"""Signals that vote on a label: for its goal, for another of the utterance's, or not at all."""
_Z_95 = 1.645
_SURE_READING = 0.5
_UTTERANCE = ("utterance_id", "locale", "as_of", "context", "text", "n_turns", "n_pairs", "friction", "n_users")
_OF_GOAL = ("p_nlu", "n_users_behind", "posterior_without_one")
_READ_BY_OTHERS = 0.5
"""Least probability, by the refit, of the intent of what one person alone says."""
_LEAST_OTHER = 0.02
"""Least probability of what an unsure wording may mean too."""
_STABLE = 0.5
"""Least posterior that a label's goal must keep without any one person's turns: below it the label is that person's."""


def weak_labels(chosen: DataFrame, tags: TagModel | None = None, load: LoadEncoder | None = None) -> DataFrame:
    """Columns of `tables.WEAK_LABELS` but `SUPPORT`: the chosen labels with the slots on their words.

    Goals that the words contradict are left out.
    With `load`, which gives an encoder on any worker, values are also put on words that mean them.
    """
    columns = [name for name in tables.WEAK_LABELS.schema.fieldNames() if name not in SUPPORT]
    tagged = with_tags(without_contradicted(chosen), tags, load)
    return tagged.withColumn("goal", F.when(F.col("is_goal"), F.col("goal"))).select(*columns)


def chosen_labels(nodes: DataFrame, settings: Labels, calibration: Calibration | None = None) -> DataFrame:
    """The most probable goal of each utterance, where it may be trusted, and the `goals` of its intent.

    A label is emitted where its calibrated posterior reaches the threshold of its intent, its posterior is `margin`
    above that of the next goal, at least `min_users` people stand behind it, and it would stand without any one of
    them. Where the goal falls short of the first two and its intent, over all its goals, does not, the label is of the
    intent alone: not `is_goal`.
    It is new where the deployed NLU read something else, or was less than even sure; else it confirms.
    `p_correct` is the probability of what the label says, `p_correct_lb` its one-sided 95 % Wilson bound at that many
    independent people. `votes` are by how much each signal's log evidence for the goal exceeds that for any other.
    """
    calibration = calibration or Calibration()
    known = _with_reading(_with_leads(_utterances(nodes)))
    posterior, people = F.col("posterior"), F.col("n_users_behind")
    p_goal = calibration.probability(posterior)
    # The intent is no less probable than one of its goals, whatever the last digits say.
    p_intent = F.greatest(p_goal, calibration.probability(F.col("intent_posterior")))
    threshold = _threshold(settings)
    is_goal = (p_goal >= threshold) & (posterior - F.col("next_posterior") >= settings.margin)
    is_intent = (p_intent >= threshold) & (F.col("intent_posterior") - F.col("next_intent") >= settings.margin)
    return (
        known.where((F.col("goal") != tables.OTHER_GOAL) & (people >= settings.min_users))
        .where(F.col("posterior_without_one") >= _STABLE)
        .withColumns({"is_goal": is_goal, "is_emitted": is_goal | is_intent})
        .where("is_emitted")
        .withColumns({"p_goal": p_goal, "p_intent": p_intent})
        .withColumn("p_correct", F.when(F.col("is_goal"), F.col("p_goal")).otherwise(F.col("p_intent")))
        .withColumn("p_correct_lb", wilson_lower_bound(F.col("p_correct"), people))
        .withColumn("is_new", _is_new())
        .withColumn("reason", _reason(F.when(F.col("is_goal"), "").otherwise("; its intent alone is sure enough")))
        .withColumn("goals", F.transform(F.filter("goals", _is_same_intent), _believed))
    )


def unsure_intents(nodes: DataFrame, settings: Labels, least: float) -> DataFrame:
    """The intent of each utterance's most probable goal, where its probability over all its goals is above `least`.

    Columns `utterance_id, locale, context, text, intent, slots, is_intent_only, annotated_utterance, p_correct,
    other_intents, n_users, reason`; nothing is said of slots. `other_intents` has what else it may be, each intent with
    the probability it would have without any one person. No one person decides it: either at least `min_users` people
    stand behind it, as behind a label, and without any one of them no other intent's goal would be more probable; or
    one person alone said it, and the refit, which learnt from others, reads that intent. It may well be wrong, so it is
    no label.
    """
    known = _with_reading(_with_leads(_utterances(nodes)))
    rest = [
        F.transform(F.filter("goals", chosen), lambda goal: goal["posterior_without_one"])
        for chosen in (_is_same_intent, lambda goal: ~_is_same_intent(goal) & goal["intent"].isNotNull())
    ]
    is_anybodys = _total(rest[0]) >= F.coalesce(F.array_max(rest[1]), F.lit(0.0))
    is_several = F.col("n_users_behind") >= settings.min_users
    # Where nothing was refitted the evidence is zero, and the deployed NLU alone would be heard.
    p_nlu = _total(F.transform(F.filter("goals", _is_same_intent), lambda goal: F.exp(goal["nlu_evidence"])))
    p_read = F.exp("refit_evidence") * p_nlu
    is_read = (F.col("n_users") == 1) & (F.col("refit_evidence") != 0) & (p_read > _READ_BY_OTHERS)
    of_intent = {
        "intent": F.col("top_intent"),
        "slots": F.array().cast(tables.WEAK_LABELS.schema["slots"].dataType),
        "is_intent_only": F.lit(True),
        "annotated_utterance": F.col("text"),
    }
    return (
        known.where(F.col("goal") != tables.OTHER_GOAL)
        .withColumn("p_correct", F.least("intent_posterior", F.lit(1.0)))
        .where((F.col("p_correct") > least) & (is_several & is_anybodys | is_read))
        .withColumns({"reason": _reason(F.lit("; the likeliest intent, and not sure")), **of_intent})
        .withColumn("other_intents", _other_intents())
        .select(
            "utterance_id", "locale", "context", "text", *of_intent, "p_correct", "other_intents", "n_users", "reason"
        )
    )


SUPPORT = ("n_days", "n_edges")
"""Columns of `tables.WEAK_LABELS` that `with_support` sets."""


def with_support(labels: DataFrame, evidence: DataFrame, edges: DataFrame) -> DataFrame:
    """Set `n_days` on which the utterance was said, and `n_edges`, the utterances it is paired with.

    `evidence` are rows of `tables.EVIDENCE` of the window, `edges` of `tables.GRAPH_EDGES`.
    """
    said = evidence.where("kind = 'utterance'").select(F.col("source_utterance").alias("utterance_id"), "turn_date")
    days = said.groupBy("utterance_id").agg(F.count_distinct("turn_date").alias("n_days"))
    ends = F.explode(F.array("source_utterance", "target_utterance")).alias("utterance_id")
    linked = edges.select(ends).groupBy("utterance_id").agg(F.count(F.lit(1)).alias("n_edges"))
    counts = {name: F.coalesce(name, F.lit(0)).cast("long") for name in SUPPORT}
    found = labels.join(days, "utterance_id", "left").join(linked, "utterance_id", "left").withColumns(counts)
    return found.select(*tables.WEAK_LABELS.schema.fieldNames())


def wilson_lower_bound(p: Column, n: Column) -> Column:
    """One-sided 95 % Wilson score bound of a proportion p seen in n trials."""
    z2 = _Z_95**2
    centre = p + z2 / (2 * n)
    spread = _Z_95 * F.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return F.greatest(F.lit(0.0), (centre - spread) / (1 + z2 / n))


def _utterances(nodes: DataFrame) -> DataFrame:
    """One row per utterance: its candidate goals in a list, the most probable first, and that one's own columns."""
    evidence = [f"{voter}_evidence" for voter in VOTERS]
    intent = F.get_json_object("goal", "$.intent").alias("intent")
    candidate = F.struct("rank", "goal", intent, "posterior", *_OF_GOAL, *evidence)
    listed = nodes.groupBy(*_UTTERANCE).agg(F.array_sort(F.collect_list(candidate)).alias("goals"))
    top = F.element_at("goals", 1)
    names = ("goal", "posterior", *_OF_GOAL, *evidence)
    return listed.select("*", *(top[name].alias(name) for name in names), top["intent"].alias("top_intent"))


def _with_leads(utterances: DataFrame) -> DataFrame:
    """How far the goal, its intent and each signal's evidence for it lie above the rest."""
    others = F.slice("goals", 2, F.size("goals"))

    def most(field: str) -> Column:
        return F.array_max(F.transform(others, lambda goal: goal[field]))

    same = F.transform(F.filter("goals", _is_same_intent), lambda goal: goal["posterior"])
    rest = F.transform(F.filter("goals", lambda goal: ~_is_same_intent(goal)), lambda goal: goal["posterior"])
    votes = [
        F.struct(
            F.lit(voter).alias("signal"),
            F.round(F.coalesce(F.col(f"{voter}_evidence") - most(f"{voter}_evidence"), F.lit(0.0)), 3).alias("lead"),
        )
        for voter in VOTERS
    ]
    return utterances.withColumns(
        {
            "next_posterior": F.coalesce(most("posterior"), F.lit(0.0)),
            "intent_posterior": _total(same),
            # Goals of other intents are taken as of one intent: no less than any of them has.
            "next_intent": _total(rest),
            "votes": F.array(*votes),
        }
    )


def _with_reading(utterances: DataFrame) -> DataFrame:
    """The goal that the deployed NLU gave most probability, `nlu_goal`, and that probability, `p_read`."""
    read = F.filter("goals", lambda goal: (goal["p_nlu"] > 0) & (goal["goal"] != tables.OTHER_GOAL))
    surest = F.array_min(F.transform(read, lambda goal: F.struct((-goal["p_nlu"]).alias("minus"), goal["goal"])))
    found = utterances.withColumn("surest", surest)
    return found.withColumns({"nlu_goal": F.col("surest.goal"), "p_read": -F.col("surest.minus")}).drop("surest")


def _total(values: Column) -> Column:
    return F.aggregate(values, F.lit(0.0), lambda total, value: total + value)


def _other_intents() -> Column:
    """What else an utterance may be: intents with the probability that no one person decides."""
    others = F.filter("goals", lambda goal: goal["intent"].isNotNull() & ~_is_same_intent(goal))

    def weighed(intent: Column) -> Column:
        of_it = F.filter(others, lambda goal: goal["intent"] == intent)
        weight = _total(F.transform(of_it, lambda goal: goal["posterior_without_one"]))
        return F.struct(intent.alias("intent"), F.round(F.least(weight, F.lit(1.0)), 6).alias("weight"))

    intents = F.array_sort(F.array_distinct(F.transform(others, lambda goal: goal["intent"])))
    return F.filter(F.transform(intents, weighed), lambda one: one["weight"] > _LEAST_OTHER)


def _is_same_intent(goal: Column) -> Column:
    return F.coalesce(goal["intent"] == F.col("top_intent"), F.lit(False))


def _believed(goal: Column) -> Column:
    return F.struct(goal["goal"].alias("goal"), goal["posterior"].alias("posterior"))


def _threshold(settings: Labels) -> Column:
    """Of the intent, the general one where it has none of its own."""
    if not settings.thresholds:
        return F.lit(settings.threshold)
    own = F.create_map(*(F.lit(part) for part in chain.from_iterable(sorted(settings.thresholds.items()))))
    return F.coalesce(F.try_element_at(own, F.coalesce("top_intent", F.lit(""))), F.lit(settings.threshold))


def _is_new() -> Column:
    """Of a label of the intent alone, whether the deployed NLU read another intent, or was unsure."""
    same_intent = F.get_json_object("nlu_goal", "$.intent") == F.col("top_intent")
    is_read = F.when(F.col("is_goal"), F.col("nlu_goal") == F.col("goal")).otherwise(same_intent)
    p_read = F.when(F.col("is_goal"), F.col("p_nlu")).otherwise(F.col("p_read"))
    return ~F.coalesce(is_read, F.lit(False)) | (p_read < _SURE_READING)


def _reason(ending: Column) -> Column:
    def share(value: Column) -> Column:
        return F.format_string("%.2f", value)

    def people(n: Column) -> Column:
        return F.when(n == 1, "1 person").otherwise(F.format_string("%d people", n))

    nlu_intent = F.get_json_object("nlu_goal", "$.intent")
    same_intent = nlu_intent == F.get_json_object("goal", "$.intent")
    reading = (
        F.when(F.col("nlu_goal").isNull(), F.lit("the NLU had no reading of it"))
        .when(F.col("nlu_goal") == F.col("goal"), F.concat(F.lit("the NLU reads it so with "), share(F.col("p_read"))))
        .when(same_intent, F.concat(F.lit("the NLU reads other values with "), share(F.col("p_read"))))
        .otherwise(F.concat(F.lit("the NLU reads "), nlu_intent, F.lit(" with "), share(F.col("p_read"))))
    )
    failed = F.format_string(", failed %.0f %% of the time", 100 * F.col("friction"))
    said = F.concat(F.lit("; said by "), people(F.col("n_users")), failed)
    paired = F.when(F.col("n_pairs") > 0, F.format_string("; linked by %.1f pairs", F.col("n_pairs"))).otherwise("")
    strongest = F.format_string(
        "; log evidence: NLU %+.1f, outcomes %+.1f, pairs %+.1f, variants %+.1f, refit %+.1f",
        *(F.col(f"{voter}_evidence") for voter in VOTERS),
    )
    behind = F.concat(F.lit("; "), people(F.col("n_users_behind")), F.lit(" behind the label"))
    return F.concat(reading, said, paired, behind, strongest, ending)
