"""Where a store may lie that a job writes."""

import os

from prunedlora.results.storage import StoreError


def check_storage(storage: str) -> None:
    """Raises StoreError for a relative path inside a Ray job, whose working directory is a copy that is thrown away."""
    in_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ  # set by Ray for a job's entry point
    if in_job and "://" not in storage and not os.path.isabs(os.path.expanduser(storage)):
        raise StoreError(
            f"storage {storage} would lie in the job's temporary working directory and be lost with it; "
            "give --storage a path that all nodes share, or s3://…, gs://…"
        )
