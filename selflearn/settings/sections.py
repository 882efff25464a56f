"""Settings: one YAML file, frozen models, unknown keys refused, all mistakes reported at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Section):
    """Where rows come from and how their columns become canonical columns."""

    path: str = Field(
        min_length=1,
        description="file, folder or glob; `{date}` stands for the day (YYYY-MM-DD), so that a run reads only its days",
    )
    format: Literal["jsonl", "csv", "parquet", "delta"] = "jsonl"
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="canonical column -> Spark SQL expression over the source's columns; a column that is left out "
        "is taken by its own name where the source has it",
    )
    raw_schema: str | None = Field(
        default=None,
        description="Spark DDL of the source's columns (jsonl, csv); inferred where left out and `columns` is given, "
        "else canonical",
    )


class Turns(_Section):
    """Ingest: what counts as a good turn, and where a session ends."""

    locales: tuple[str, ...] | None = Field(
        default=None, description="locales to accept; left out: any well-formed language tag"
    )
    max_text_length: StrictInt = Field(default=2_000, ge=1, description="characters; a longer text is quarantined")
    session_gap_minutes: StrictFloat = Field(
        default=30, gt=0, description="inactivity that ends a session without an id"
    )
    max_session_hours: StrictFloat = Field(
        default=6, gt=0, le=24, description="how far beyond midnight a session is followed"
    )
    future_tolerance_minutes: StrictFloat = Field(
        default=10, ge=0, description="clock skew allowed before `future_time`"
    )
    max_quarantined_share: StrictFloat = Field(
        default=0.05,
        ge=0,
        le=1,
        description="a run with a larger share of bad rows stops before it writes turns",
    )
    max_volume_factor: StrictFloat | None = Field(
        default=5,
        gt=1,
        description="a run stops before it writes where a day has more rows than this many times the median of the "
        "days before it, or fewer than that part of it; null: any volume will do",
    )
    mask_personal_data: bool = Field(default=True, description="mask e-mail, phone, card and long digit runs")


class Detect(_Section):
    """Rephrase detection."""

    max_turns: StrictInt = Field(default=5, ge=1, le=20, description="how many later turns of the session are compared")
    max_gap_minutes: StrictFloat = Field(default=5, gt=0, description="longest time between the two turns of a pair")
    max_turns_per_session: StrictInt = Field(
        default=2_000,
        ge=2,
        description="turns of one session and day that are compared; how many more there were is in the metrics",
    )
    max_pairs: StrictInt = Field(
        default=2_000_000_000, ge=1, description="a run that is forecast to compare more pairs stops before it does"
    )
    window_days: StrictInt = Field(
        default=28, ge=1, description="days of counted level patterns that a day's model sees"
    )
    model: Path | None = Field(default=None, description="a saved model of pairs to use as it is")
    encoder: str | None = Field(
        default=None,
        min_length=1,
        description="what makes vectors of texts, whose cosine is a signal of a pair: a folder, or the name of a "
        "sentence-transformers model; left out: pairs are compared without one",
    )


class Variants(_Section):
    """Which utterances of different people are compared with each other."""

    encoder: str | None = Field(
        default=None,
        description="what makes vectors of texts, for variants, for putting labels' values on words that mean them "
        "and, if it is pretrained, for reading intents anew: a folder, or the name of a sentence-transformers model; "
        "left out: the newest that `selflearn encoder train` made for this lake, else one that has learnt nothing, "
        "which labels do without",
    )
    min_cosine: StrictFloat = Field(default=0.6, gt=0, le=1, description="least cosine of two utterances' vectors")
    max_neighbours: StrictInt = Field(default=10, ge=1, le=1_000, description="nearest utterances kept for each")
    max_cell: StrictInt = Field(
        default=20_000,
        ge=2,
        description="utterances compared with each other; how many pairs fuller cells would have had is in the metrics",
    )
    max_pairs: StrictInt = Field(
        default=200_000_000_000,
        ge=1,
        description="a run that is forecast to compare more pairs of utterances stops before it does",
    )
    across_locales: bool = Field(default=False, description="compare utterances of different locales, too")


class Graph(_Section):
    """Evidence window and the pool of sources that gives an utterance its goal."""

    window_days: StrictInt = Field(default=90, ge=1, description="days of evidence that count")
    half_life_days: StrictFloat = Field(default=30, gt=0, description="age at which a day's evidence counts half")
    domain_half_life_days: dict[str, Annotated[StrictFloat, Field(gt=0)]] = Field(
        default_factory=dict,
        description="beginning of intents -> half-life of their utterances' evidence; the longest that fits is taken",
    )
    min_pair_probability: StrictFloat = Field(default=0.1, ge=0, le=1, description="pairs below it carry no message")
    max_candidate_goals: StrictInt = Field(
        default=8, ge=2, description="candidate goals kept per utterance, of its readings and of its pairs each"
    )
    max_turns_per_user: StrictInt = Field(
        default=1_000,
        ge=1,
        description="turns of one user and day that count as evidence; how many more there were is in the metrics",
    )

    def half_life_of(self, intent: str) -> float:
        """Half-life of evidence about utterances of that intent, in days."""
        fitting = [beginning for beginning in self.domain_half_life_days if intent.startswith(beginning)]
        return self.domain_half_life_days[max(fitting, key=len)] if fitting else self.half_life_days


class Rewrites(_Section):
    """Which wordings are served as others that work."""

    min_users: StrictInt = Field(
        default=3, ge=2, description="least people who went on from a wording to others of its goal"
    )
    min_days: StrictInt = Field(default=2, ge=1, description="least days on which they did")
    min_friction: StrictFloat = Field(
        default=0.5, ge=0, le=1, description="a wording that fails less often is left as it is"
    )
    protected_intents: tuple[str, ...] = Field(
        default=(), description="intents whose wordings are neither rewritten nor written to"
    )
    cooldown_days: StrictInt = Field(default=30, ge=0, description="for how long a retired rewrite is not tried again")
    max_links_on_driver: StrictInt = Field(
        default=20_000_000, ge=0, description="larger chains of wordings are solved by the workers"
    )


class Labels(_Section):
    """Which posteriors become weak labels."""

    threshold: StrictFloat = Field(default=0.85, gt=0, lt=1, description="least p_correct of an emitted label")
    thresholds: dict[str, Annotated[StrictFloat, Field(gt=0, lt=1)]] = Field(
        default_factory=dict, description="intent -> threshold of its own"
    )
    margin: StrictFloat = Field(
        default=0.2, ge=0, lt=1, description="least posterior of a label's goal above that of the next one"
    )
    min_users: StrictInt = Field(default=2, ge=1, description="least people behind a label or its neighbourhood")


class Trainer(_Section):
    """Your own NLU's trainer, as two commands; what they are given is told in `selflearn/release/trainer.py`."""

    train: str = Field(
        min_length=1, description="command; TRAIN.jsonl and an empty folder for the model are added to it"
    )
    predict: str = Field(
        min_length=1, description="command; the model's folder, INPUT.jsonl and OUTPUT.jsonl are added to it"
    )
    time_limit_minutes: StrictFloat = Field(default=60, gt=0, description="after which either command is stopped")


class Release(_Section):
    """What goes into a training set, and what it must not lose to be published."""

    max_per_goal: StrictInt = Field(default=500, ge=1, description="mined examples per locale and intent")
    confirmed_share: StrictFloat = Field(
        default=10.0, ge=0, description="most confirmed examples per new example, to keep the balance"
    )
    unsure_from: StrictFloat = Field(
        default=0.4,
        gt=0,
        le=1,
        description="words that have no label teach their likeliest intent where it is more probable than this, "
        "weighted by that; 1 teaches none",
    )
    golden: dict[str, Source] = Field(
        default_factory=dict,
        description="name -> evaluation set, mapped like the launch set: a release must not lose on it, and nothing "
        "that stands in it, or nearly so, is mined",
    )
    protected_intents: tuple[str, ...] = Field(
        default=(), description="intents on whose evaluation sentences, taken by themselves, a release must not lose"
    )
    max_loss: StrictFloat = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="share of right frames whose loss must be ruled out, at 95 %, on head traffic, golden sets, "
        "held-out launch sentences and protected intents; sets of fewer than 3 / max_loss sentences may lose no more",
    )
    trainer: Trainer | None = Field(default=None, description="left out: the reference NLU")


class Maintenance(_Section):
    """What the tables' upkeep removes."""

    keep_days: dict[str, StrictInt] = Field(
        default_factory=dict,
        description="table -> age in days, on the day of the upkeep, beyond which its rows go; a table that is left "
        "out keeps all",
    )
    vacuum_hours: StrictInt = Field(
        default=168, ge=168, description="age at which files that no table refers to any more are deleted"
    )
    erasure_requests: str | None = Field(
        default=None,
        min_length=1,
        description="file of the ids of users who asked to be forgotten, one a line, as the source has them",
    )


class Settings(_Section):
    """All of a deployment's settings."""

    lake: str = Field(min_length=1, description="folder (or object-store address) of the Delta tables")
    source: Source
    launch: Source | None = Field(default=None, description="sentences the deployed NLU was trained on")
    turns: Turns = Turns()
    detect: Detect = Detect()
    variants: Variants = Variants()
    graph: Graph = Graph()
    rewrites: Rewrites = Rewrites()
    labels: Labels = Labels()
    release: Release = Release()
    maintenance: Maintenance = Maintenance()

    @model_validator(mode="before")
    @classmethod
    def _needs_mapping(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("a settings file is a mapping of sections")
        return value

    def fingerprint(self) -> str:
        """First 12 hex digits of the SHA-256 of everything but upkeep and where tables, logs and a pinned detector lie.

        A pinned detector counts by its content.
        """
        places: dict[str, Any] = {
            "lake": True,
            "maintenance": True,
            "source": {"path"},
            "launch": {"path"},
            "detect": {"model"},
            "release": {"golden": {"__all__": {"path"}}},
        }
        content = self.model_dump(mode="json", exclude=places)
        if self.detect.model and self.detect.model.is_file():
            content["pinned"] = hashlib.sha256(self.detect.model.read_bytes()).hexdigest()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
