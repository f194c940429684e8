"""Tables, plots, galleries and the HTML report."""
