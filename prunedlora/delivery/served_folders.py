"""The forms of an adapter that servers need, beside it as it was trained: one folder each, named by the form, since
several servers take the same."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunedlora.adapters.gguf_adapter import GgufError, check_gguf_base
from prunedlora.adapters.repack import make_uniform
from prunedlora.delivery.candidate_export import turn_into_gguf
from prunedlora.delivery.companions import write_companions
from prunedlora.delivery.form import AS_TRAINED, ExportError, Form
from prunedlora.delivery.known_model_type import base_config, with_model_type
from prunedlora.results.analysis.served_size import forms_of
from prunedlora.results.record import Candidate, Figure, TrialRecord
from prunedlora.results.report.told import Told
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Refused


def form_for(record: TrialRecord, candidate: Candidate, server: str) -> Form:
    """The smallest form in which a server (of servers.known.SERVERS) applies the adapter as it was trained. Raises
    ExportError where there is none, or no such server."""
    if server not in SERVERS:
        raise ExportError(f"{server!r} is no server that there is a rule for: {', '.join(SERVERS)}")
    if not any(candidate.ranks.values()):
        return AS_TRAINED  # no adapter, which whoever fetches it says
    form = forms_of(with_model_type(record), candidate, [server])[server]
    if isinstance(form, Refused):
        raise ExportError(f"{SERVERS[server].title} serves this adapter right in no form: {form.why}")
    return _form(form)


def folders_for(record: TrialRecord, candidate: Candidate, serve_on: Sequence[str]) -> dict[str, Form]:
    """Name of a folder → the form that lies in it, of all that these servers need other than as it was trained. A
    merged model, which is as large as its base, is none of them: `prunedlora export --serve-on` makes it."""
    forms = {_form(form) for form in forms_of(record, candidate, serve_on).values() if not isinstance(form, Refused)}
    named = {"gguf" if form.gguf else f"uniform-{form.rank}": form for form in forms if not form.merged}
    return {name: form for name, form in sorted(named.items()) if form != AS_TRAINED}


def write_served_folders(
    record: TrialRecord,
    candidate: Candidate,
    adapter: Path,
    serve_on: Sequence[str],
    *,
    checks: Mapping[str, Any],
    test: Mapping[str, Figure],
    began: Mapping[str, Figure],
    told: Told | None,
) -> list[str]:
    """Writes `folders_for` into the folder `adapter`, which holds it as it was trained and nothing else; what lies
    beside each is as for `write_companions`. Loads no model: zeros and order change nothing, and GGUF is read back.

    Returns why folders could not be made, one line each.
    """
    record = with_model_type(record)
    problems, made = [], dict[str, Path]()
    for name, form in folders_for(record, candidate, serve_on).items():
        folder = adapter.parent / name
        shutil.copytree(adapter, folder)
        found = dict(checks)
        try:
            if form.gguf:
                base = base_config(record)
                check_gguf_base(base)
                found |= turn_into_gguf(folder, base)
            else:
                assert form.rank is not None
                assert record.layer_widths is not None  # without them there is no such form
                make_uniform(folder, form.rank, record.layer_widths)
        except (GgufError, OSError) as error:
            problems.append(f"the recommended adapter has no folder {name}: {error}")
            continue
        write_companions(record, candidate, folder, form=form, checks=found, test=test, began=began, told=told)
        made[name] = folder
    for name, folder in made.items():
        shutil.move(folder, adapter / name)
    return problems


def _form(form: AdapterShape) -> Form:
    match form.kind:
        case Kind.TRAINED:
            return AS_TRAINED
        case Kind.UNIFORM:
            return Form(uniform=form.rank)
        case Kind.GGUF:
            return Form(gguf=True)
        case Kind.MERGED:
            return Form(merged=True)
