"""Make the models that come with the package: fitted, without labels, on simulated logs of a seed no test uses.

They anchor every fit and stand in where a log is too small for one. Run it again after a change of the signals.
"""

from __future__ import annotations

import json
import os
import tempfile
from datetime import date, timedelta
from pathlib import Path

from deltalake import DeltaTable

import selflearn.detect
from selflearn.detect import FOLLOW_UP_SIGNALS, PAIR_SIGNALS, FrictionModel, LevelModel
from selflearn.detect.additive import AdditiveModel
from selflearn.detect.follow_up import EVENT_SIGNALS
from selflearn.detect.friction import Seeding
from selflearn.detect.signals import Signal
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import STAGES, day_range, run_stage
from selflearn.session import build_session
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source
from selflearn.simulate import simulate

_START, _DAYS, _TURNS, _SEED = date(2026, 1, 5), 5, 60_000, 20260105
_DIGITS = 5


def main() -> None:
    """Simulate, detect, and write `shipped_*.json` into the package."""
    os.environ.setdefault(USER_KEY_VARIABLE, "simulated people have no secrets")
    folder = Path(selflearn.detect.__file__).parent
    for name, nothing in (
        ("pair", uninformed_pair(PAIR_SIGNALS)),
        ("friction", uninformed_friction(FOLLOW_UP_SIGNALS)),
    ):
        (folder / f"shipped_{name}.json").write_text(nothing.to_json(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as work:
        simulate(Path(work) / "sample", n_turns=_TURNS, days=_DAYS, start=_START, seed=_SEED)
        settings = Settings(lake=f"{work}/lake", source=Source(path=f"{work}/sample/logs/{{date}}.jsonl"))
        lake = Lakehouse(build_session("selflearn shipped detectors"), settings.lake)
        days = day_range(_START, _START + timedelta(days=_DAYS - 1))
        for stage in ("ingest", "detect"):
            run_stage(STAGES[stage], lake, settings, days)
        models = DeltaTable(f"{settings.lake}/detectors").to_pandas()
    newest = models[models["turn_date"] == max(days)].set_index("model")["content"]
    for name in ("pair", "friction"):
        content = json.loads(newest[name], parse_float=lambda text: round(float(text), _DIGITS))
        if name == "friction":
            # Another assistant has other intents, contexts and words, and another NLU makes its claims.
            content |= {"path_trouble": {}, "left_unread": {}}
            content["seeding"] |= {"claimed": [], "worth": []}
        (folder / f"shipped_{name}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    pair, friction = LevelModel.from_json(newest["pair"]), FrictionModel.from_json(newest["friction"])
    for name, signals, rows in (
        ("pair", pair.signals, pair.weights()),
        ("friction", friction.weights.signals, friction.weights.weights),
    ):
        for signal, weights in zip(signals, rows, strict=True):
            print(f"{name:9} {signal:22} {' '.join(f'{weight:+.2f}' for weight in weights)}")
    print(friction.seeding)


def uninformed_friction(signals: tuple[Signal, ...]) -> FrictionModel:
    """A model in which no level weighs anything."""
    weights, evidence = (
        AdditiveModel(tuple(signal.name for signal in some), tuple((0.0,) * signal.n_levels for signal in some), 0.0)
        for some in (signals, EVENT_SIGNALS)
    )
    return FrictionModel(Seeding(0.25, 0.02), weights, evidence, {}, {}, 0.0)


def uninformed_pair(signals: tuple[Signal, ...]) -> LevelModel:
    """A model in which no level weighs anything."""
    even = tuple((0.0, *[1 / (signal.n_levels - 1)] * (signal.n_levels - 1)) for signal in signals)
    return LevelModel(
        name="pair",
        signals=tuple(signal.name for signal in signals),
        edges=tuple(signal.edges for signal in signals),
        match=even,
        unmatch=even,
        reliance=(1.0,) * len(signals),
        offset=0.0,
        slope=0.0,
        seed_weight=1.0,
        n=0.0,
        steps=1,
    )


if __name__ == "__main__":
    main()
