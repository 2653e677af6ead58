"""Names of files in an adapter's folder and in a run folder."""

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RUN_DESCRIPTION = "task.json"  # in a run folder; older runs have the same content in CONFIG
