"""The report: results.json from the run directory, and everything else from results.json alone."""
