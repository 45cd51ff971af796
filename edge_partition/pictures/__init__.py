"""Pictures and pages of models and plans."""
