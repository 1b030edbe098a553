import pytest

from prunedlora.results.storage import StoreError
from prunedlora.sweep.job_storage import check_storage


def test_a_relative_storage_in_a_job_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's working directory is a temporary copy; results in it would be lost."""
    check_storage("runs/x")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for kept in ("/shared/x", "s3://bucket/x", "~/x"):
        check_storage(kept)
    with pytest.raises(StoreError, match="runs/x would lie in the job's temporary working directory"):
        check_storage("runs/x")
