"""What a report says on the terminal: the decision, the front, what it cost and what failed, within 80 columns."""

from rich.console import Console, Group, RenderableType
from rich.text import Text

from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.confirmation_text import fresh_sentences
from prunedlora.results.analysis.decision import Decision, decide
from prunedlora.results.analysis.early_ends import too_large_text
from prunedlora.results.analysis.evaluation_time import judged_text
from prunedlora.results.analysis.harness_quality import unmeasured_text
from prunedlora.results.analysis.serving import refused_text
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.analysis.throughput_text import throughputs_text
from prunedlora.results.analysis.trainings import cost_of, sharing_text
from prunedlora.results.analysis.yardstick import comparisons, warning
from prunedlora.results.figure_text import figure_text
from prunedlora.results.report.answer import looked_at_text
from prunedlora.results.report.choices import choices_table
from prunedlora.results.report.original_table import original_tables
from prunedlora.results.report.plan_table import plan_findings
from prunedlora.results.report.tables import failures_table, front_table, letters_of, original_table
from prunedlora.results.report.verdict import sentences
from prunedlora.results.warm_start_document import warm_start_sentences


def print_report(summary: Summary, console: Console) -> None:
    """Prints the overview, then where the sweep's report and the recommended adapter lie."""
    console.print(overview(summary))
    print_paths(summary, summary.store.storage.uri_of("report/report.html"), console)


def print_paths(summary: Summary, page: str | None, console: Console) -> None:
    """Prints where the report's page (None: not written) and the recommended adapter lie."""
    if page is not None:
        print_plain(console, f"Report: {page}")
    if summary.recommended is not None:
        path = summary.exported_uri or summary.adapter_uri(summary.recommended)
        print_plain(console, f"Adapter: {path}")


def overview(summary: Summary) -> Group:
    """The answer, what a larger margin buys, the front, what it cost, then the failed trials where there are any."""
    decision = decide(summary)
    parts: list[RenderableType] = [answer(summary, decision)]
    if decision is not None:
        parts.append(choices_table(decision, summary))
    if summary.front:
        parts.append(front_table(summary))
        if note := refused_text([point.candidate for point in summary.front]):
            parts.append(Text(note))
        shrunk = original_tables(summary)
        for table in shrunk.tables:  # a long name has no room in a table's own title
            parts += [Text(f"{table.title}:"), original_table(summary, table)]
        if note := shrunk.note():
            parts.append(Text(note))
        if letters := letters_of(summary):
            lines = [f"  {letter}: {name}" for name, letter in letters.items()]
            parts.append(Text("\n".join([f"Cuts{'' if shrunk.tables else ' on the front'}, by name:", *lines])))
        if sharing := sharing_text(summary.front):
            parts.append(Text(sharing))
    if summary.records:
        parts.append(Text(f"Cost: {cost_of(summary.records).text()}."))
    if passed_over := too_large_text(summary.asks):
        parts.append(Text(passed_over))
    if (plan := plan_findings(summary)) is not None:
        parts.append(Text(f"Plan: {plan.text()}."))
    if throughputs := throughputs_text(summary.records):
        parts.append(Text(f"Throughput: {throughputs}."))
    if judged := judged_text(summary.records):
        parts.append(Text(judged))
    if unmeasured := unmeasured_text(summary.records, summary.objectives.quality):
        parts.append(Text(unmeasured))
    parts += map(Text, warm_start_sentences(summary.store))
    if summary.failed:
        parts.append(failures_table(summary))
    return Group(*parts)


def answer(summary: Summary, decision: Decision | None) -> Text:
    """The decision in sentences, or why there is none."""
    if decision is None:
        return Text(summary.missing_answer() or "")
    quality = summary.objectives.quality
    doubt = warning(summary, decision.recommended.point)
    lines = [*filter(None, [doubt]), *sentences(decision, summary), *comparisons(summary), looked_at_text(summary)]
    if summary.base_quality is not None:
        lines.append(f"The untrained base model has {quality} {figure_text(summary.base_quality)}.")
    if summary.full is not None:
        lines.append(f"Full fine-tuning reaches {quality} {figure_text(summary.full)}.")
    lines += fresh_sentences(summary.confirmations, decision.recommended.point.name, summary.objectives)
    return Text(" ".join(lines))
