"""Fine-tune a vision-language model with MoRA for items whose image or text may be missing, and publish it."""

import os

# ONNX Runtime's own builds send events about models and machine to their maker unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
