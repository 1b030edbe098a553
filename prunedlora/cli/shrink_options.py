"""Options of shrink, by what they are about."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

STEPS, LEARNING_RATE, BATCH_SIZE = 100, 2e-4, 16
"""By default. The rate is QLoRA's for 7B and 13B models (https://arxiv.org/abs/2305.14314); the others are round
numbers."""


class ModelDtype(StrEnum):
    """model.dtype."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Quantization(StrEnum):
    """model.quantization."""

    NF4 = "nf4"
    INT8 = "int8"


class Task(StrEnum):
    """data.task."""

    GENERATION = "generation"
    TEXT_CLASSIFICATION = "text_classification"


class Rows(StrEnum):
    """The format of a source of data."""

    MESSAGES = "messages"
    SHAREGPT = "sharegpt"
    PROMPT_COMPLETION = "prompt_completion"
    ALPACA = "alpaca"
    INPUT_OUTPUT = "input_output"
    TEXT = "text"


def _option(help: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help, **{"show_default": False, **settings})


DATA = "Data"
SIZES = "Sizes, at most one of these; else halves of its parameters down to 1/32"
COURSE = "What is done with it"
BLIND = "Without --data"

Adapter = Annotated[
    str,
    typer.Argument(
        help="A folder of PEFT's, a name on the Hub, or store:STORE/KEY@NAME for a candidate of a store.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    _option(
        "What it is judged by: a file or folder (README, Bring your data), a dataset on the Hub, hf:// s3:// "
        "https://, reasoning_gym:TASK; or a sweep file (.yaml), whose model, data and evaluation are then taken. "
        "Data that the adapter was trained on make it look better than it is. Without data: how far its weights "
        "move at each size, which is no accuracy.",
        rich_help_panel=DATA,
    ),
]
Validation = Annotated[
    str | None,
    _option(
        "Where the examples come from that candidates are compared on; else a quarter of the distinct prompts of "
        "--data, at most 500, is cut from it.",
        rich_help_panel=DATA,
    ),
]
Test = Annotated[
    str | None,
    _option("The same for the examples that the recommended adapter is tested on.", rich_help_panel=DATA),
]
NumValidation = Annotated[int | None, _option("So many are cut instead.", min=1, rich_help_panel=DATA)]
NumTest = Annotated[int | None, _option("So many are cut instead.", min=1, rich_help_panel=DATA)]
Prompt = Annotated[str | None, _option("Template of what the model reads, as '{question}'.", rich_help_panel=DATA)]
Target = Annotated[str | None, _option("Template of the answer or the class, as '{answer}'.", rich_help_panel=DATA)]
RowFormat = Annotated[
    Rows | None, _option("What the rows are; else known by their columns.", "--format", rich_help_panel=DATA)
]
ChatTemplate = Annotated[
    str | None, _option("tokenizer, none, or a jinja file, for conversations.", rich_help_panel=DATA)
]
MaxLength = Annotated[
    int | None, _option("Longest input in tokens; else the model's limit.", min=1, rich_help_panel=DATA)
]
TaskName = Annotated[
    Task | None,
    _option("What the adapter is for, where its files do not say it.", rich_help_panel=DATA),
]
Labels = Annotated[
    str | None,
    _option(
        "Classes in the order of the logits, as back,front, or a file with one name a line, where neither the "
        "adapter nor its base names them.",
        rich_help_panel=DATA,
    ),
]
Metric = Annotated[
    str | None,
    _option(
        "What it is judged by, as in evaluation.metric; else accuracy for classes and loss for text.",
        rich_help_panel=DATA,
    ),
]
MaxNewTokens = Annotated[
    int | None, _option("Longest generated answer, for metrics that generate.", min=1, rich_help_panel=DATA)
]
Within = Annotated[
    float | None,
    _option(
        "The recommended adapter is the smallest that is at most so much worse than the best; else 0.01 (one "
        "point) of a score, 0.02 of loss.",
        min=0.0,
        rich_help_panel=DATA,
    ),
]
Kept = Annotated[str | None, _option("Shares of its parameters that stay, falling, as .5,.25.", rich_help_panel=SIZES)]
MeanRank = Annotated[str | None, _option("As many as all layers have at this rank, as 4,2,0.5.", rich_help_panel=SIZES)]
Parameters = Annotated[str | None, _option("Parameters, as 50000,20000.", rich_help_panel=SIZES)]
Steps = Annotated[
    int | None,
    _option(
        "Optimizer steps at each size; 0 only cuts, in minutes, without Ray and Optuna. The default is a round "
        "number and not measured.",
        min=0,
        show_default=str(STEPS),
        rich_help_panel=COURSE,
    ),
]
LearningRate = Annotated[
    float | None,
    _option(
        "Peak at each size, of factors and heads; the default is published practice for LoRA, and not tuned.",
        show_default=f"{LEARNING_RATE:g}",
        rich_help_panel=COURSE,
    ),
]
BatchSize = Annotated[
    int | None,
    _option("Examples per step.", min=1, show_default=str(BATCH_SIZE), rich_help_panel=COURSE),
]
Seed = Annotated[int | None, _option("Of the order of the data.", min=0, rich_help_panel=COURSE)]
Base = Annotated[
    str | None,
    _option(
        "Where its base model is, if not where the adapter says. Without --data: check that the adapter fits it.",
        rich_help_panel=COURSE,
    ),
]
Revision = Annotated[str | None, _option("Of an adapter on the Hub: branch, tag or commit.", rich_help_panel=COURSE)]
BaseDtype = Annotated[
    ModelDtype | None,
    _option("Of the base weights.", show_default="auto: bfloat16 on a GPU", rich_help_panel=COURSE),
]
QuantizationName = Annotated[Quantization | None, _option("Of the base weights; needs a GPU.", rich_help_panel=COURSE)]
NumWorkers = Annotated[int | None, _option("Ray Train workers.", min=1, rich_help_panel=COURSE)]
GpusPerWorker = Annotated[
    float | None,
    _option("0, 1 or a part of one.", min=0.0, show_default="1 if there is a GPU here", rich_help_panel=COURSE),
]
ShrinkStorage = Annotated[
    str | None,
    _option("Folder of the records, or s3://…, gs://….", show_default="runs/shrink-ADAPTER"),
]
To = Annotated[
    Path | None, _option("Write the cut adapters, figures and a chart into this new folder.", rich_help_panel=BLIND)
]
AllLayers = Annotated[bool, _option("Tell every layer, not kinds of them.", "--layers", rich_help_panel=BLIND)]
AsJson = Annotated[bool, _option("Print JSON.", "--json", rich_help_panel=BLIND)]
