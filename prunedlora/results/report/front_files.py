"""front.json, report.json, front.csv and candidates.csv: the figures of a sweep for other tools."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prunedlora.results.analysis.confirmation_document import confirmation_documents
from prunedlora.results.analysis.early_ends import stopped_facts
from prunedlora.results.analysis.evaluation_time import evaluation_share
from prunedlora.results.analysis.harness_quality import split_text
from prunedlora.results.analysis.original import original_facts, original_name
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.serve_text import serve_columns, serve_document
from prunedlora.results.analysis.serving import slot_sentence
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.analysis.trainings import cost_of, shared_trainings
from prunedlora.results.record import Candidate, Environment, Figure, TrialRecord, to_json
from prunedlora.results.recorded_settings import flat
from prunedlora.results.report.findings import Findings
from prunedlora.results.report.plan_table import plan_json
from prunedlora.results.report.verdict import decision_document
from prunedlora.sizes import SIZES


def front_document(summary: Summary) -> dict[str, Any]:
    """The content of front.json, as plain JSON data."""
    quality, size = summary.objectives.quality, summary.objectives.size
    base = summary.base_quality
    return {
        "sweep": summary.name,
        "objectives": summary.objectives.as_dict(),
        **serve_document(summary),
        "split": split_text(quality),
        "hypervolume": summary.hypervolume,
        "reference_point": {quality: summary.reference.quality, size: summary.reference.size},
        "reference_rule": summary.reference.rule,
        "full": None if summary.full is None else _quality(quality, summary.full),
        "base": None if base is None else {**_quality(quality, base), "adapter_params": 0, "adapter_bytes": 0},
        "originals": [_original(summary, point) for point in summary.originals.values()],
        "front": [_row(summary, point) for point in summary.front],
        "recommended": _recommended(summary),
    }


def report_document(summary: Summary, findings: Findings) -> dict[str, Any]:
    """The content of report.json: all figures of the page, front.json's, then what is not of the front."""
    cost, decision = cost_of(summary.records), findings.decision
    bands, importances = findings.bands, findings.importances
    return {
        **front_document(summary),
        "num_trials": len(summary.records),
        "num_confirming": len(summary.records) - len(summary.chosen_from),
        "num_candidates": len(summary.points),
        "cost": asdict(cost),
        "plan": plan_json(findings.plan),
        "throughput": {
            record.key: {"tokens_per_second": record.tokens_per_second, "padding_share": record.padding_share}
            for record in summary.records
        },
        "evaluation_share": evaluation_share(cost.device_seconds, cost.evaluation_seconds),
        "judged_by_loss": [
            {"key": record.key, "name": one.name, **one.judged_by_loss.model_dump()}
            for record in summary.records
            for one in record.candidates
            if one.judged_by_loss is not None
        ],
        "trainings_of_several": dict(shared_trainings(summary.front)),
        "missing_answer": summary.missing_answer(),
        "best": None if summary.best is None else _row(summary, summary.best),
        "decision": None if decision is None else decision_document(decision, summary),
        "attainment": None if bands is None else asdict(bands),
        "looked_at_on_test": {name: _figures(figures) for name, figures in summary.tested.items()},
        "confirmations": confirmation_documents(summary.confirmations, summary.objectives),
        "harness": {name: _figures(figures) for name, figures in findings.harness.items()},
        "directions": {
            name: {path: {**asdict(one), "text": one.text()} for path, one in found.items()}
            for name, found in findings.directions.items()
        },
        "history": [asdict(stage) for stage in findings.stages],
        "importances": None if importances is None else importances.model_dump(mode="json"),
        "warm_start": findings.warm_start,
        "failed": [
            {
                "key": record.key,
                "label": record.label,
                "attempts": record.attempts,
                "candidates": _left(record),
                **record.failure.model_dump(),
            }
            for record in summary.failed
            if record.failure is not None
        ],
        "stopped": [
            {"key": record.key, "label": record.label, **stopped_facts(record), "candidates": _left(record)}
            for record in summary.stopped
        ],
        "num_too_large": sum(ask.is_too_large for ask in summary.asks),
        "command": summary.store.read_command(),
        "contents": summary.store.binding.read_contents(),
        "sweep_file": summary.sweep,
        "environments": [
            {"num_trials": count, **environment.model_dump(mode="json")} for environment, count in environments(summary)
        ],
    }


def _left(record: TrialRecord) -> list[dict[str, Any]]:
    """What a trial left that did not come to its end."""
    return [{"name": one.name, "rung": one.rung, **_figures(one.figures)} for one in record.candidates]


def environments(summary: Summary) -> list[tuple[Environment, int]]:
    """The environments that trials ran in, with how many, most first."""
    counts = Counter(to_json(record.environment) for record in summary.records)
    return [(Environment.model_validate_json(text), count) for text, count in counts.most_common()]


def front_rows(summary: Summary) -> list[dict[str, Any]]:
    """One row per point of the front, smallest first; settings as columns `config.<path>`."""
    return [
        {
            **{name: value for name, value in _row(summary, point).items() if name != "config"},
            "confirms": point.key in summary.confirming,
            **setting_columns(point.record),
        }
        for point in summary.front
    ]


def candidate_rows(summary: Summary) -> list[dict[str, Any]]:
    """One row per candidate of all trials, failed ones included, by key and step; `confirms` is true of a fresh
    training that confirms others and is itself none to choose. Its seconds, tokens and examples of training are those
    until then: candidates of one key share them, so a training cost the most among its rows. Tokens per second and the
    share of padding are those of the whole training."""
    on_front = {point.name for point in summary.front}
    return [
        {
            "key": record.key,
            "step": candidate.step,
            **_made(candidate),
            "label": record.label,
            "status": record.status,
            "confirms": record.key in summary.confirming,
            "on_front": f"{record.key}@{candidate.name}" in on_front,
            "recommended": summary.is_recommended(f"{record.key}@{candidate.name}"),
            **_beside(summary, record.key, candidate),
            "progress": candidate.progress,
            **{
                column: value
                for name, figure in sorted(candidate.figures.items())
                for column, value in {
                    name: figure.value,
                    f"{name}_stderr": figure.stderr,
                    f"{name}_num_examples": figure.num_examples,
                }.items()
            },
            **{name: getattr(candidate, name) for name in SIZES},
            **serve_columns(record, candidate, summary.objectives.serve_on),
            "vllm": slot_sentence(candidate),
            "head_params": candidate.head_params,
            "file_bytes": candidate.file_bytes,
            "train_seconds": candidate.train_seconds,
            "tokens_seen": candidate.tokens_seen,
            "examples_seen": candidate.examples_seen,
            "evaluation_seconds": candidate.evaluation_seconds,
            "tokens_per_second": record.tokens_per_second,
            "padding_share": record.padding_share,
            **({} if candidate.judged_by_loss is None else {"judged_by_loss": candidate.judged_by_loss.beaten_by}),
            "adapter_path": candidate.adapter_path,
            **settings,
        }
        for record in summary.records
        for settings in (setting_columns(record),)
        for candidate in record.candidates
    ]


def _row(summary: Summary, point: Point) -> dict[str, Any]:
    return {
        "key": point.key,
        "step": point.step,
        **_made(point.candidate),
        **_quality(summary.objectives.quality, point.quality),
        **_beside(summary, point.key, point.candidate),
        **{name: getattr(point.candidate, name) for name in SIZES},
        **serve_columns(point.record, point.candidate, summary.objectives.serve_on),
        "vllm": slot_sentence(point.candidate),
        "adapter_path": summary.adapter_uri(point),
        "config": point.record.config,
    }


def _original(summary: Summary, point: Point) -> dict[str, Any]:
    """The adapter that a training began with: which it is, and what it measured as it came."""
    return {"name": original_name(point.record), **original_facts(point.record), **_row(summary, point)}


def _beside(summary: Summary, key: str, candidate: Candidate) -> dict[str, Any]:
    """How a candidate stands beside the original of its training; all of it in every row, so that columns agree."""
    original, beside = summary.originals.get(key), summary.beside.get(f"{key}@{candidate.name}")
    return {
        "is_original": original is not None and original.candidate.name == candidate.name,
        "times_smaller_than_original": None if beside is None else beside.times_smaller,
        "difference_from_original": None if beside is None else beside.difference,
        "difference_from_original_stderr": None if beside is None else beside.stderr,
        "difference_from_original_paired": None if beside is None else beside.paired,
    }


def _made(candidate: Candidate) -> dict[str, Any]:
    """Where on its training it was made, and the parts of its cut; all of them in every row, so that columns agree."""
    cut = candidate.cut
    return {
        "candidate": candidate.name,
        "rung": candidate.rung,
        "branch_steps": candidate.branch_steps,
        "cut": None if cut is None else cut.name,
        "cut_basis": None if cut is None else cut.basis,
        "cut_allocation": None if cut is None else cut.allocation,
        "cut_unit": None if cut is None else cut.unit,
        "cut_size": None if cut is None else cut.size,
    }


def _recommended(summary: Summary) -> dict[str, Any] | None:
    point, exported = summary.recommended, summary.exported
    if point is None:
        return None
    return {
        **_row(summary, point),
        "within": summary.within,
        "validation": _figures(point.candidate.figures),
        "test": None if exported is None else _figures(exported.test),
        "path": summary.exported_uri,
    }


def _quality(name: str, figure: Figure) -> dict[str, Any]:
    return {name: figure.value, f"{name}_stderr": figure.stderr, "num_examples": figure.num_examples}


def _figures(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: figure.model_dump() for name, figure in sorted(figures.items())}


def setting_columns(record: TrialRecord) -> dict[str, Any]:
    """Columns `config.<path>` of a row; lists and mappings as JSON text."""
    return {
        f"config.{path}": json.dumps(value) if isinstance(value, (list, dict)) else value
        for path, value in flat(record.config).items()
    }


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of a table of candidates, whose rows need not all have the same; `key` and `step` in an empty one."""
    columns = list(dict.fromkeys(["key", "step", *(column for row in rows for column in row)]))
    # Settings that only some trials have must not stand between the figures of the others.
    return sorted(columns, key=lambda column: column.startswith("config."))


def json_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, allow_nan=False, indent=1) + "\n"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
