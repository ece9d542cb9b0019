"""Run folders, model folders, model cards and results, and the exchange of models with the Hugging Face Hub."""
