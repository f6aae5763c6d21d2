"""Make HTML pages, junit.xml, run.py, the terminal's table and an index page from report.json."""
