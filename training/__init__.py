"""Fine-tune a vision-language model with MoRA for items whose image or text may be missing, and publish it."""
