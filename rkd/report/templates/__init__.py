"""Templates of the HTML report. This is a package so that they are installed with the code."""
