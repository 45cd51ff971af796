"""Models from elsewhere: a description of each, and a function that builds or fetches it."""
