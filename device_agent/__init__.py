"""The agent: the program that runs on each board.

The agent receives stages of a model, checks, loads and runs the stages, and sends their outputs to
the next board or to the client.
"""
