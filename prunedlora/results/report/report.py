"""The report folder of a sweep: one HTML page that opens with the answer, and its figures as JSON, CSV and PNG."""

from collections import Counter
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import yaml

from prunedlora.results.analysis.confirmation_text import fresh_sentences
from prunedlora.results.analysis.early_ends import beaten_text, too_large_text
from prunedlora.results.analysis.evaluation_time import judged_text
from prunedlora.results.analysis.harness_quality import (
    examples_text,
    spent_text,
    split_text,
    unmeasured_text,
    whole_split_text,
)
from prunedlora.results.analysis.latency_document import latency_columns
from prunedlora.results.analysis.learning_curves import LearningCurves, learning_curves
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.analysis.rank_map import rank_map
from prunedlora.results.analysis.serve_text import serve_sentences
from prunedlora.results.analysis.serving import refused_text, slot_cell, slot_sentence
from prunedlora.results.analysis.summary import Summary, export_command, summarize
from prunedlora.results.analysis.sweep_facts import sweep_facts
from prunedlora.results.analysis.throughput_text import throughput_text, throughputs_text
from prunedlora.results.analysis.trainings import cost_of, is_untrained, sharing_text
from prunedlora.results.analysis.yardstick import comparisons, warning
from prunedlora.results.figure_text import no_error_text
from prunedlora.results.recorded_settings import method, telling
from prunedlora.results.report import answer
from prunedlora.results.report.chart import curve_chart, history_charts, importance_chart, rank_chart
from prunedlora.results.report.chart_style import short_names, size_title
from prunedlora.results.report.choices import choice_rows
from prunedlora.results.report.findings import Findings, find_all
from prunedlora.results.report.front_chart import front_chart
from prunedlora.results.report.front_files import (
    candidate_rows,
    csv_text,
    environments,
    front_document,
    front_rows,
    json_text,
    report_document,
)
from prunedlora.results.report.front_png import front_png
from prunedlora.results.report.ladder_lines import ladder_lines
from prunedlora.results.report.latency_table import beside_base, milliseconds
from prunedlora.results.report.original_table import made_word, original_tables
from prunedlora.results.report.page import render
from prunedlora.results.report.parallel_chart import parallel_chart
from prunedlora.results.report.plan_table import number_text, title_of
from prunedlora.results.report.scene import MOST_WITH_BARS
from prunedlora.results.report.verdict import sentences
from prunedlora.results.rung_text import cut_text, left_text, rung_text
from prunedlora.results.share_text import record_share_text
from prunedlora.results.storage import Storage
from prunedlora.results.store import Store

REPORT_FOLDER = "report"
PAGE_FILE = "report.html"
MOST_ROWS = 100
"""Failed, and stopped, trials in the page; report.json has them all."""


def shares_text(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{path} {share:.0%}" for path, share in sorted(shares.items(), key=lambda item: -item[1]))


FUNCTIONS = (
    answer.how_made, answer.with_interval, beaten_text, beside_base, cut_text, export_command, is_untrained, left_text,
    made_word, milliseconds, number_text, shares_text, slot_cell, slot_sentence, throughput_text, title_of,
)  # fmt: skip
"""What the templates call, by their names."""


def write_report(store: Store, within: float | None = None, size: str | None = None) -> Summary:
    """Writes the report of a store as it is now (`write_report_of`). `within` and `size` are as for `summarize`, whose
    errors it raises."""
    summary = summarize(store, within, size)
    write_report_of(summary)
    return summary


def write_report_of(summary: Summary) -> None:
    """Writes the files of `report_files` into the store's `report_folder`. Raises RecordError for a broken
    importances.json, or outcomes that are broken."""
    write_files(report_files(summary), summary.store.storage, report_folder(summary))


def report_folder(summary: Summary) -> str:
    """Where in the store the report lies: `report`; one against another size than the sweep's own, or for other
    servers, in folders of these names within, so that it does not replace the sweep's."""
    asked, own = summary.objectives, Objectives.of_sweep(summary.sweep)
    others = [] if asked.size == own.size else [asked.size]
    others += [] if asked.serve_on == own.serve_on else [f"served-on-{'-'.join(asked.serve_on) or 'none'}"]
    return "/".join([REPORT_FOLDER, *others])


def report_files(summary: Summary) -> dict[str, bytes]:
    """Name → content of report.html, report.json, front.json, front.csv, candidates.csv and front.png. Raises
    RecordError for a broken importances.json."""
    findings = find_all(summary)
    texts = {
        "report.json": json_text(report_document(summary, findings)),
        "front.json": json_text(front_document(summary)),
        "front.csv": csv_text(front_rows(summary)),
        "candidates.csv": csv_text(candidate_rows(summary)),
        PAGE_FILE: report_html(summary, findings),
    }
    return {name: text.encode() for name, text in texts.items()} | {"front.png": front_png(summary)}


def write_files(files: Mapping[str, bytes], storage: Storage, folder: str) -> str:
    """Writes a report's files into a folder of the storage ("": its root); returns the page's path or URI. Raises
    NotAllowedError, or another StoreError, where that fails."""
    paths = {name: f"{folder}/{name}" if folder else name for name in files}
    for name, content in files.items():
        storage.write_bytes(paths[name], content)
    return storage.uri_of(paths[PAGE_FILE])


def report_html(summary: Summary, findings: Findings) -> str:
    """A self-contained page: no request leaves it, and every text from outside is escaped."""
    quality, decision = summary.objectives.quality, findings.decision
    records = list({point.key: point.record for point in summary.points}.values())
    paths = telling(records)
    num_beaten = len(summary.points) - len(summary.front)
    curves = learning_curves(summary)
    return render(
        __package__,
        "report.html.jinja",
        _charts(summary, findings, curves, paths),
        **{function.__name__: function for function in FUNCTIONS},
        **vars(findings),
        summary=summary,
        command=summary.store.read_command(),
        contents=summary.store.binding.read_contents(),
        quality=quality,
        split=split_text(quality),
        examples=examples_text(quality),
        no_error=no_error_text(point.quality for point in summary.front),
        size_title=size_title(summary.objectives),
        whole_split=whole_split_text(quality),
        recommended=summary.recommended,
        test=None if summary.recommended is None else summary.test_of(summary.recommended),
        served=[] if summary.recommended is None else serve_sentences(summary, summary.recommended),
        facts=sweep_facts(summary),
        looked_at=answer.looked_at_text(summary),
        rows_beside=answer.rows_beside(summary),
        choices=[] if decision is None else choice_rows(decision, summary),
        confirm_command="" if decision is None else answer.confirm_command(decision, summary),
        refused=refused_text([point.candidate for point in summary.front]),
        sentences=[] if decision is None else sentences(decision, summary),
        comparisons=comparisons(summary),
        warning="" if summary.recommended is None else warning(summary, summary.recommended),
        finished=sum(record.status != "failed" for record in summary.chosen_from),
        again=len(summary.records) - len(summary.chosen_from),
        fresh=[]
        if summary.recommended is None
        else fresh_sentences(summary.confirmations, summary.recommended.name, summary.objectives),
        bars_left_out=f"{num_beaten:,}" if num_beaten > MOST_WITH_BARS else "",
        empty_adapters=any(point.size == 0 for point in summary.points),
        paths=paths,
        methods=Counter(method(record) for record in records).most_common(),
        cost=cost_of(summary.records),
        passed_over=too_large_text(summary.asks),
        judged=judged_text(summary.records),
        throughputs=throughputs_text(summary.records),
        spent=spent_text(quality, None if summary.exported is None else summary.exported.test),
        unmeasured=unmeasured_text(summary.records, quality),
        sharing=sharing_text(summary.front),
        rungs=_rungs(summary),
        shrunk=original_tables(summary),
        untrained=bool(summary.records) and all(map(is_untrained, summary.records)),
        ladder_note=ladder_lines(summary).note(),
        half_trained=any(point.candidate.is_half_trained for point in summary.points),
        cuts=any(point.candidate.cut is not None for point in summary.points),
        device_seconds=findings.stages[-1].device_seconds if findings.stages else 0.0,
        searched=any(ask.kind == "search" for ask in summary.asks),
        num_blocks=len(rank_map(summary.recommended.candidate.ranks)[0]) if summary.recommended is not None else 0,
        curves=curves,
        harness_names=sorted({name for figures in findings.harness.values() for name in figures}),
        seeds=answer.seeds_text(summary),
        latencies=latency_columns(summary.store, summary.front),
        most_rows=MOST_ROWS,
        sweep_yaml=yaml.safe_dump(summary.sweep, sort_keys=False, allow_unicode=True),
        shares=Counter(text for record in records if (text := record_share_text(record))).most_common(),
        environments=environments(summary),
    )


def _rungs(summary: Summary) -> dict[str, str]:
    """Name of each point of the front → its rung in a few characters; empty where none has a rung or was cut."""
    rungs = {point.name: rung_text(point.record, point.candidate) for point in summary.front}
    return rungs if any(rungs.values()) else {}


def _charts(summary: Summary, findings: Findings, curves: LearningCurves, paths: Sequence[str]) -> dict[str, go.Figure]:
    charts = {}
    if summary.points:
        charts["front"] = front_chart(summary, paths, findings.bands)
        charts["history_trials"], charts["history_seconds"] = history_charts(findings.stages)
        if (parallel := parallel_chart(summary)) is not None:
            charts["parallel"] = parallel
    if curves.curves:
        charts["curves"] = curve_chart(curves)
    if summary.recommended is not None:
        charts["ranks"] = rank_chart(summary.recommended.candidate.ranks)
    importances = findings.importances
    for i, one in enumerate(importances.objectives.values() if importances is not None else (), start=1):
        if one.shares is not None:
            charts[f"importance_{i}"] = importance_chart(one.shares, short_names(one.shares))
    return charts
