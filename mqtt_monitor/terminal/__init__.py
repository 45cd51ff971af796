"""The fleet, live in a terminal: what ``mqtt-monitor`` shows where somebody watches.

``board_rows``, ``stage_rows`` and ``details`` turn a snapshot into rows and text and are pure;
``live_table``, ``pane`` and ``app`` put those on the screen with Textual.
"""
