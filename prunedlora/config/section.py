"""What all sections of a configuration share: frozen, no unknown fields, field docstrings as descriptions."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from prunedlora.registry import lookup

Progress = Annotated[float, Field(ge=0.0, le=1.0)]  # share of the optimizer steps done


Options = dict[str, JsonValue]
"""Settings of a library by name, which a trial's key can be made of: texts, finite numbers, lists of them."""


class Section(BaseModel):
    """A frozen group of settings; an unknown field is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


def registered(kind: str) -> AfterValidator:
    """Validates a name against the registry of its kind; an unknown one is refused with the list of known names."""

    def check(name: str) -> str:
        lookup(kind, name)
        return name

    return AfterValidator(check)
