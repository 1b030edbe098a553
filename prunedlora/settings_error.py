"""The error of settings that no border could refuse: what they clash with is known where a trial is put together."""


class SettingsError(ValueError):
    """Settings that do not go together with the length of the training, the layers or the number of workers."""
