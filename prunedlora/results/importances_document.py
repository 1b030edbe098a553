"""Which searched fields mattered for each objective: written by the search, which knows Optuna, and read here."""

from typing import Literal, Self

from pydantic import Field, model_validator

from prunedlora.results.record import SCHEMA_VERSION, Document
from prunedlora.results.store import Store

FILE = "importances.json"


class ObjectiveImportances(Document):
    shares: dict[str, float] | None
    """Field path → its share of the importance of all, 0 to 1; None when there is nothing to say."""
    reason: str | None = None
    """Why there is nothing to say."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.shares is None) == (self.reason is None):
            raise ValueError("importances need either shares or a reason why there are none")
        return self


class Importances(Document):
    schema_version: Literal[2] = SCHEMA_VERSION
    evaluator: str
    """What worked them out, with its version."""
    num_trials: int = Field(ge=0)
    """Completed search trials that they rest on, each by its last candidate that is as it was trained."""
    num_best: int = Field(ge=0)
    """How many of these count as the best; the importances say what sets them apart."""
    objectives: dict[str, ObjectiveImportances]


def write_importances(store: Store, importances: Importances) -> None:
    store.write_document(FILE, importances)


def read_importances(store: Store) -> Importances | None:
    """None while no run of the sweep has come to its end. Raises RecordError for a broken file."""
    return store.read_document(Importances, FILE)
