"""Find and describe plans: which boards run which range of a model's operators, at which cost."""
