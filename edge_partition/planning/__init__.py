"""Which board runs which operators."""
