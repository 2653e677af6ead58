"""What a person can get wrong in training, as one small tree; every message names the cause and the way out."""


class TrainingError(Exception):
    """Anything training refuses to do."""


class ConfigError(TrainingError):
    """The configuration or a flag is wrong."""


class DataError(TrainingError):
    """The data is wrong; the message names the file, the rows and the cure."""


class BackboneError(TrainingError):
    """The backbone cannot be loaded or cannot be adapted as configured."""


class ExportError(TrainingError):
    """The exported graphs disagree with the model, so nothing is published."""


class RunError(TrainingError):
    """A run directory is not what the command needs."""
