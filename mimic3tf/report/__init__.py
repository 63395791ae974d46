"""Results of several runs as tables, figures and one page."""
