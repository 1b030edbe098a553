"""What lies beside an adapter that is handed over: its card and certificate, the names of its classes, its template."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunedlora.delivery.card import CARD_FILE, CERTIFICATE_FILE, card, certificate
from prunedlora.delivery.class_names import write_labels
from prunedlora.delivery.form import Form
from prunedlora.delivery.recorded_chat import write_template
from prunedlora.results.record import Candidate, Figure, TrialRecord
from prunedlora.results.report.told import Told


def write_companions(
    record: TrialRecord,
    candidate: Candidate,
    result: Path,
    *,
    original: Path,
    form: Form,
    checks: Mapping[str, Any],
    test: Mapping[str, Figure],
    began: Mapping[str, Figure],
    told: Told | None,
) -> None:
    """Writes them into `result`, the adapter of `original` in `form`.

    Args:
        checks: what was checked of it, as its certificate tells.
        test: its figures on the test split; empty where it was not measured there.
        began: the same of the adapter that its training began with.
        told: what its sweep's decision says of it; None where that does not know it.
    """
    if not form.merged:  # whose config.json and tokenizer have them
        write_labels(record, result)
        write_template(record, result)
    size = sum(file.stat().st_size for file in result.glob("*.gguf" if form.gguf else "*.safetensors"))
    text = card(record, candidate, test, original, form, began, told, size)
    (result / CARD_FILE).write_text(text, encoding="utf-8")
    document = certificate(record, candidate, dict(checks), original, form, test, began, told)
    document["file_bytes"] = size
    (result / CERTIFICATE_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
