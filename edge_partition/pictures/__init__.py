"""SVG pictures of plans, and an HTML page that shows a model."""
