"""Report the results of runs, audits and sweeps: one page, with its figures and tables as files."""
