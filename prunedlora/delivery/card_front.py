"""The front matter of a model card, as the Hub reads it."""

from huggingface_hub import EvalResult, ModelCardData

from prunedlora.config.identity import looks_local
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.base_words import PACKAGE
from prunedlora.delivery.form import Form
from prunedlora.results.record import Figure

PIPELINE_TAGS = {"AutoModelForCausalLM": "text-generation", "AutoModelForSequenceClassification": "text-classification"}


def front_matter(
    config: TrialConfig, name: str, form: Form, auto_model: str, metric: str, split: str, figure: Figure
) -> ModelCardData:
    """`name`: of the candidate; `figure`: its `metric` on the `split`; `auto_model`: the class of transformers that
    loads it."""
    pipeline, datasets = PIPELINE_TAGS[auto_model], _dataset_names(config, split)
    return ModelCardData(
        base_model=_hub_name(config.model.name),
        library_name="transformers" if form.merged else None if form.gguf else "peft",
        pipeline_tag=pipeline,
        tags=["lora", "prunedlora", *(["gguf"] if form.gguf else [])],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=pipeline,
                dataset_type=datasets,
                dataset_name=datasets,
                dataset_split=split,
                metric_type=metric,
                metric_value=figure.value,
            )
        ],
    )


def _dataset_names(config: TrialConfig, split: str) -> str:
    """All sources of the split that a figure is from: train's, where it is cut from them."""
    sources = config.data.sources(split) or config.data.sources("train")
    return " + ".join(dict.fromkeys(source.name for source in sources))


def _hub_name(model: str) -> str | None:
    """The base model where the Hub knows it; it refuses a card that names another one."""
    return None if model.startswith(PACKAGE) or looks_local(model) else model
