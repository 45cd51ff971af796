"""The terminal front end: tables and details of the fleet.

``board_rows``, ``stage_rows``, ``header`` and ``details`` turn a snapshot into rows and text and
are pure; ``live_table``, the panes and ``app`` draw them with Textual.
"""
