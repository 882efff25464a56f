"""`selflearn fit` and `selflearn encoder`: learning from gold, from a corpus, from the log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from selflearn.cli.common import SettingsFile, console, parse_day
from selflearn.errors import DataError, SettingsError

fit_app = typer.Typer(no_args_is_help=True, help="Learn from what people judged.")
encoder_app = typer.Typer(no_args_is_help=True, help="Train what finds utterances of one meaning.")


@fit_app.command(name="pairs")
def fit_pairs_command(
    settings: SettingsFile,
    out: Annotated[Path, typer.Option("--out", help="file to write the model to, .json")],
    gold: Annotated[
        Path | None, typer.Option(help="source_turn_id, target_turn_id, is_rephrase; .jsonl, .csv or .parquet")
    ] = None,
    corpus: Annotated[bool, typer.Option("--corpus", help="learn from the launch set of the settings too")] = False,
) -> None:
    """Fit a model of rephrase pairs to gold, to a labelled corpus, or to both; `detect.model` names it then."""
    from selflearn.evaluate import read_gold
    from selflearn.lakehouse.store import Lakehouse
    from selflearn.pipeline.fitting import fit_pairs
    from selflearn.session import build_session
    from selflearn.settings import load_settings

    if gold is None and not corpus:
        raise SettingsError("there is nothing to learn from", "give --gold FILE, --corpus, or both")
    known, pairs = load_settings(settings), read_gold(gold) if gold else None
    if pairs is not None and pairs.empty:
        raise DataError(f"gold file {gold} has no pairs", "judge some; table rephrase_pairs lists candidates")
    with console.status("starting Spark"):
        model = fit_pairs(Lakehouse(build_session(), known.lake), known, pairs, corpus)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(model.to_json(), encoding="utf-8")
    for name, value in model.provenance.items():
        if isinstance(value, int):
            console.print(f"  {name.removeprefix('n_').replace('_', ' '):<22} {value:,}")
    console.print(f"Model: {out} (name it in the settings as detect.model)")


@encoder_app.command(name="train")
def train_encoder_command(
    settings: SettingsFile,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write to; left out: the lake's newest")] = None,
    first: Annotated[str, typer.Option("--from", help="first day, YYYY-MM-DD; all days where left out")] = "",
    last: Annotated[str, typer.Option("--to", help="last day, YYYY-MM-DD; the same as --from where left out")] = "",
    seed: Annotated[int, typer.Option(help="same seed, same encoder")] = 0,
) -> None:
    """Train an encoder on the log, and on the launch set where the settings name one; writes a folder."""
    from selflearn.lakehouse.store import Lakehouse
    from selflearn.pipeline import day_range
    from selflearn.pipeline.encoders import new_encoder
    from selflearn.pipeline.encoding import train_on_lake
    from selflearn.session import build_session
    from selflearn.settings import load_settings
    from selflearn.variants.training import check_folder, require_torch

    if last and not first:
        raise SettingsError(f"--to {last} is given without --from", "give the first day too")
    known, days = load_settings(settings), day_range(parse_day(first), parse_day(last or first)) if first else None
    folder = out or new_encoder(known.lake, datetime.now(UTC))
    check_folder(folder)
    require_torch()
    with console.status("training an encoder"):
        trained, provenance = train_on_lake(Lakehouse(build_session(), known.lake), known, days, seed)
    trained.save(folder, provenance)
    for name, value in trained.figures.items():
        console.print(f"  {name.removeprefix('n_').replace('_', ' '):<16} {value:,}")
    console.print(f"Encoder: {folder}")
