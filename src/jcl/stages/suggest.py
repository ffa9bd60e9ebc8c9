"""Suggesting: which scans, and which slices of them, are worth labelling next."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jcl import backbones
from jcl.config import SuggestConfig
from jcl.data.context import span_of, taken_context, with_context
from jcl.data.origins import slice_origins
from jcl.data.store import Store
from jcl.data.through_plane import through_of
from jcl.distributed.device import resolve_device, resolve_precision
from jcl.errors import DataError, UsageError
from jcl.files import clear_left, write_atomically, write_error, write_json
from jcl.inference.coverage import cover, covered_by, distances_between, spread_of, typicality
from jcl.inference.ensemble import Member, check_agree, check_prepared_alike, prepared_alike
from jcl.inference.predictor import NotFiniteError, ready_to_segment
from jcl.inference.segmenter import is_for_hub, read_trained
from jcl.inference.slice_looks import CaseLook, Looker, look_at_case, vector_of
from jcl.inference.suggestions import SuggestedCase, SuggestedSlice, Suggestion, Suggestions
from jcl.limits import check_numbers
from jcl.parallel.progress import ProgressBar
from jcl.training.blocks import refuse_blocks
from jcl.training.candidates import Candidates, find_candidates, stores_of

__all__ = ["suggest"]

DOUBTFUL = 2
"""Times as many as are asked for are looked at for variety, those with the most doubt (Yang et al., 2017)."""

NOTHING_FOUND = 1.0
"""Doubt of a case in which a run finds no structure."""

DIGITS = 6


@dataclass(frozen=True)
class _Patients:
    """Candidates, and behind them those whose labels are known: the features, the doubt, and the cases of each."""

    names: tuple[str, ...]
    open: int
    distances: Float[np.ndarray, "n n"]
    doubts: tuple[float | None, ...]
    cases: tuple[tuple[int, ...], ...]


def suggest(config: SuggestConfig) -> Suggestions:
    """Choose `config.patients` patients to label next, and `config.slices` slices of each of their scans.

    By a pre-training those are chosen who together stand for all candidates (`jcl.inference.coverage.cover`); by
    fine-tunings the same, among those that they doubt most. Nobody is suggested whom a run was trained on with labels,
    or who is held back to be tested. No label is read.

    Raises:
        UsageError: more patients are asked for than there are candidates, runs of both kinds are given, or a file to
            write has a name of another format.
        DataError: store or run cannot be used, or not together; a scan below `config.source` is not that of the store.
        WriteError: a file cannot be written.
    """
    check_numbers(config)
    _check_targets(config)
    members = [_read(run, trust_code=config.trust_code) for run in config.run]
    _check_kinds(members)
    with closing(Store.open(config.store)) as store:
        _check_slices(store)
        for member in members:
            _check_fits(store, member)
        candidates = find_candidates(
            store, [(member.run, member.info) for member in members], also_labelled=config.among == "all"
        )
        _check_enough(config, store, candidates)
        looker = _make_looker(config, members)
        patients = _look_at_all(store, candidates, looker)
        found = _choose(config, store, looker, patients)
        result = Suggestions(
            store=store.path.resolve().name,
            runs=tuple(run.resolve().name for run in config.run),
            candidates=len(candidates.open),
            held_back=len(candidates.held_back),
            trained=len(candidates.trained),
            labelled=len(candidates.labelled),
            suggestions=found,
        )
        _write(config, store, result)
    return result


def _check_targets(config: SuggestConfig) -> None:
    """Better to fail now than when all is computed."""
    for flag, path, suffixes in (("--out", config.out, (".csv", ".json")), ("--overview", config.overview, (".png",))):
        if path is None:
            continue
        if path.suffix.lower() not in suffixes or path.is_dir():
            raise UsageError(f"{flag} {path}: give a file whose name ends with {' or '.join(suffixes)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            clear_left(path.parent, path.name)
        except OSError as error:
            raise write_error(path, error) from error
    if config.source is not None and not config.source.is_dir():
        raise UsageError(f"--source {config.source}: no folder; name the one that the store was prepared from")


def _read(run: Path, *, trust_code: bool) -> Member:
    """A run of either kind, with its whole network."""
    if is_for_hub(run):
        raise DataError(f"{run}: made for the hub, and does not say whom it was trained on; give the run's own folder")
    weights, info = read_trained(run)
    refuse_blocks(info, run, "suggesting")
    network = backbones.restore(info.get("backbone"), run / "run.json", weights, trust_code=trust_code)
    return Member(run=run, network=network.eval(), info=info)


def _check_kinds(members: Sequence[Member]) -> None:
    """Several runs have to be fine-tunings that segment the same.

    Raises:
        UsageError: none is given, or a pre-training among several.
        DataError: two do not agree.
    """
    if not members:
        raise UsageError("run: at least one run folder is needed")
    if len(members) > 1:
        for member in members:
            if member.info["kind"] == "pretrain":
                raise UsageError(f"{member.run}: a pre-training, which is given alone; of fine-tunings several may be")
        check_agree(members)
        check_prepared_alike(members)


def _check_slices(store: Store) -> None:
    """See that slices of the store are those of the scans.

    Raises:
        UsageError: they are not.
    """
    if through_of(store.preparation) is not None:
        raise UsageError(
            f"{store.path}: resampled through the plane, so that its slices are not those to label; "
            "prepare another store without --spacing-through to suggest from"
        )


def _check_fits(store: Store, member: Member) -> None:
    """See that a store has slices as a run takes them. Of a pre-training that is known while its stores are there.

    Raises:
        DataError: it has not.
    """
    run, info = member.run, member.info
    context = _context_of(member)
    if store.channels * span_of(context) != info["backbone"]["in_channels"]:
        theirs = info["backbone"]["in_channels"] // span_of(context)
        raise DataError(f"{store.path}: has {store.channels} channels, {run} {theirs}")
    if info["kind"] == "finetune":
        preparations: list[dict[str, Any]] = [info["recipe"]]
    elif store.digest in [digest for _, digest in stores_of(run, info)]:
        return
    else:
        preparations = [found for path, _ in stores_of(run, info) if (found := _preparation_of(path))]
    prepared = with_context(store.preparation, context)
    if preparations and not any(prepared_alike(prepared, with_context(each, context)) for each in preparations):
        theirs, own = (" x ".join(map(str, each["padded"])) for each in (preparations[0], store.preparation))
        what = f"have {own} pixels, those of {run} {theirs}" if own != theirs else f"are not prepared as those of {run}"
        raise DataError(
            f"{store.path}: its slices {what}; prepare it likewise (--size, --spacing), or give another run"
        )


def _context_of(member: Member) -> int:
    return taken_context(member.info, member.run / "run.json")


def _preparation_of(path: Path) -> dict[str, Any] | None:
    try:
        with closing(Store.open(path)) as store:
            return store.preparation
    except DataError:
        return None


def _check_enough(config: SuggestConfig, store: Store, candidates: Candidates) -> None:
    patients = {record.patient for record in store.cases}
    if len(patients) == 1:
        raise UsageError(f"{store.path}: {patients.pop()} is the only patient, so that there is nobody to choose among")
    if config.patients <= len(candidates.open):
        return
    reasons = {
        "held back by the run's split": candidates.held_back,
        "trained on": candidates.trained,
        "with labels": candidates.labelled,
    }
    why = ", ".join(f"{len(some)} {reason}" for reason, some in reasons.items() if some)
    some = f"of its {len(patients)} patients {len(candidates.open)} may be suggested" + f" ({why})" * bool(why)
    hint = "; take a smaller -n" if candidates.open else "; add scans without labels"
    more = ", or --among all for those with labels too" if candidates.labelled else ""
    raise UsageError(f"{store.path}: {config.patients} patients asked for; {some}{hint}{more}")


def _make_looker(config: SuggestConfig, members: Sequence[Member]) -> Looker:
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)
    for member in members:
        ready_to_segment(member.network, device, precision)
    info = members[0].info
    return Looker(
        networks=[member.network for member in members],  # pyright: ignore[reportArgumentType]
        context=_context_of(members[0]),
        structures=len(info["recipe"]["classes"]) if info["kind"] == "finetune" else 0,
        batch_size=config.batch_size,
        device=device,
        precision=precision,
    )


def _look_at_all(store: Store, candidates: Candidates, looker: Looker) -> _Patients:
    """Features and doubt of candidates and known patients; slices are let go of, case by case."""
    names = (*candidates.open, *candidates.known)
    cases = tuple(tuple(n for n, record in enumerate(store.cases) if record.patient == name) for name in names)
    vectors: list[Float[np.ndarray, " v"]] = []
    doubts: list[float | None] = []
    total = sum(map(len, cases))
    with ProgressBar("suggest", total=total, work=sum(store.cases[n].slices for own in cases for n in own)) as bar:
        for own in cases:
            looks: list[CaseLook] = []
            for number in own:
                record = store.cases[number]
                looks.append(_look(store, number, looker, partial(bar.within, note=record.case, work=record.slices)))
                bar.advance(record.case, record.slices)
            vectors.append(vector_of(looks))
            doubts.append(_doubt_of(looks))
    return _Patients(names, len(candidates.open), distances_between(np.stack(vectors)), tuple(doubts), cases)


def _look(store: Store, case: int, looker: Looker, within: Callable[[float], None] | None = None) -> CaseLook:
    try:
        return look_at_case(store, case, looker, within)
    except NotFiniteError as error:
        raise DataError(f"{store.path}: {store.cases[case].case}: {error}") from error


def _doubt_of(looks: Sequence[CaseLook]) -> float | None:
    """Of a patient; None of a pre-training."""
    known = [NOTHING_FOUND if look.doubt is None else look.doubt for look in looks if look.slice_doubts is not None]
    return round(sum(known) / len(known), DIGITS) if known else None


def _choose(config: SuggestConfig, store: Store, looker: Looker, patients: _Patients) -> tuple[Suggestion, ...]:
    given = range(patients.open, len(patients.names))
    allowed = list(range(patients.open))
    if looker.structures:
        allowed.sort(key=lambda one: -(patients.doubts[one] or 0.0))  # the sorting of names is kept among equals
        allowed = allowed[: DOUBTFUL * config.patients]
    chosen = cover(patients.distances, config.patients, allowed=allowed, given=given, seed=config.seed)
    counts = covered_by(patients.distances, chosen, given)
    among_open = patients.distances[: patients.open, : patients.open]
    typical, unit = typicality(among_open), spread_of(among_open)
    found: list[Suggestion] = []
    for rank, (one, count) in enumerate(zip(chosen, counts, strict=True), 1):
        others = [float(patients.distances[one, other]) for other in (*chosen, *given) if other != one]
        found.append(
            Suggestion(
                rank, patients.names[one], count, round(typical[one], DIGITS),
                round(min(others) / unit, DIGITS) if others else None, patients.doubts[one],
                tuple(_choose_slices(config, store, looker, case) for case in patients.cases[one]),
            )
        )  # fmt: skip
    return tuple(found)


def _choose_slices(config: SuggestConfig, store: Store, looker: Looker, case: int) -> SuggestedCase:
    """Slices that stand for the others of their scan, by fine-tunings among those with the most doubt; rising."""
    record, look = store.cases[case], _look(store, case, looker)
    count, allowed = min(config.slices, record.slices), list(range(record.slices))
    doubts = look.slice_doubts
    if doubts is not None:
        allowed = sorted(allowed, key=lambda number: -doubts[number])[: DOUBTFUL * count]
    chosen = sorted(cover(distances_between(look.features), count, allowed=allowed, seed=config.seed))
    origins = None if config.source is None else slice_origins(record, config.source, channels=store.channels)
    slices = tuple(
        SuggestedSlice(
            number,
            None if doubts is None else round(doubts[number], DIGITS),
            None if origins is None else origins[number],
        )
        for number in chosen
    )
    return SuggestedCase(record.case, record.slices, None if look.doubt is None else round(look.doubt, DIGITS), slices)


def _write(config: SuggestConfig, store: Store, result: Suggestions) -> None:
    if config.out is not None and config.out.suffix.lower() == ".json":
        write_json(config.out, result.as_mapping())
    elif config.out is not None:
        write_atomically(config.out, result.as_sheet().encode("utf-8", "surrogateescape"))
    if config.overview is not None:
        from jcl.inference.suggestion_overview import draw_suggestions  # not above: matplotlib takes long to load

        write_atomically(config.overview, draw_suggestions(store, result))
