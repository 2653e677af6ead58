"""The inference service: loads published versions of tasks and answers requests about items with missing modalities."""

import os

# ONNX Runtime's own builds send events about models and machine to their maker unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
