"""The terminal front end: tables and details of the fleet.

The modules ``board_rows``, ``stage_rows``, ``header`` and ``details`` turn a snapshot into rows and
text, and are pure. The modules ``live_table``, ``pane``, ``board_pane``, ``stage_pane`` and ``app``
draw the rows and the text with Textual.
"""
