"""A figure of lm-evaluation-harness as `evaluation.metric`: what is wrong with it as far as no task is loaded."""

from prunedlora.config.evaluation_section import EvaluationConfig
from prunedlora.config.harness_tasks import is_path
from prunedlora.config.metric_names import harness_metric

NEEDS_CAUSAL = "needs a causal language model (task generation); that of task {!r} has a classification head"
WITHOUT_EFFECT = {
    "max_new_tokens": "its task says how long an answer may be",
    "stop": "its task says where an answer ends",
    "generate": "every candidate is measured, since the loss on validation examples says little of other documents",
}
"""Fields that say how validation examples are answered, and why they say nothing of the harness's."""


def harness_objective_problems(evaluation: EvaluationConfig, task: str, auto_model: str) -> list[str]:
    """One line per problem. Whether the task has the metric, and whether a file or folder has the task, is found where
    they are loaded (training/harness_objective.py)."""
    metric, tasks = evaluation.metric, evaluation.harness_tasks or []
    if auto_model != "AutoModelForCausalLM":
        return [f"evaluation.metric {metric!r} {NEEDS_CAUSAL.format(task)}"]
    found = harness_metric(metric)
    if found is None:
        return [f"evaluation.metric {metric!r} must be harness/<task>/<metric>, as harness/arc_easy/acc_norm"]
    problems = []
    if found[0] not in tasks and not any(map(is_path, tasks)):
        named = f"names {', '.join(tasks)}" if tasks else "is not given"
        problems.append(
            f"evaluation.metric {metric!r} needs the task {found[0]!r} in evaluation.harness_tasks, which {named}"
        )
    problems += [
        f"evaluation.{field} is without effect for metric {metric!r}: {why}; remove it"
        for field, why in WITHOUT_EFFECT.items()
        if getattr(evaluation, field) is not None
    ]
    return problems
