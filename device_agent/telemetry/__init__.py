"""The hardware, load and statistics of a board, and the messages that report them."""
