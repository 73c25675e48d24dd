"""The errors that commands tell in one sentence; this module imports nothing, so that they are known at once."""


class CheckpointError(Exception):
    """A checkpoint that cannot be written, is damaged, or does not fit."""


class DataError(Exception):
    """A data file that is not what it should be, or data that cannot be had."""
