"""Plans: the boards that run each range of operators, and the costs."""
